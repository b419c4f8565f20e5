"""Claiming the tasks of a flow."""

import asyncio
from contextlib import suppress
from uuid import UUID, uuid4

import asyncpg
import pytest
from testkit.support.waiting import until
from tests.integration.sources.flows import fan, one_step, root_map, wide
from tests.integration.sources.prolonging import prolong
from tests.integration.sources.world import World, claim_all, completed, drive, failed, finish_one, hold_aside

from flowworker.database import flow_tasks
from flowworker.database.leases import PARKED_FOR
from flowworker.database.records import SourceKind, TaskResult
from flowworker.errors import DatabaseUnavailableError, UnknownFlowError, UnknownRunError
from flowworker.runtime.sources.flow_source import FlowSource


async def test_a_claimed_task_carries_what_the_database_knows(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step", {"n": 1})
    (task,) = await claim_all(source)
    row = await world.task(run_id, "only")
    assert (task.run_id, task.step_slug, task.task_index, task.msg_id) == (run_id, "only", 0, row["message_id"])
    assert (task.attempt, task.max_attempts, task.timeout, task.losses, task.read_count) == (1, 3, 30.0, 0, 1)
    assert task.started_at == row["started_at"]
    assert row["status"] == "started"


async def test_inputs_look_alike_on_every_core(core_world: World) -> None:
    await core_world.create(fan)
    source = await core_world.source(fan)
    run_id = await core_world.start("fan", {"q": 1})
    outputs = {"spread": [False, None], "each": 0, "join": {"n": 2}}
    seen = await drive(source, lambda task: completed(outputs[task.step_slug]))
    assert [(task.step_slug, task.input) for task in seen] == [
        ("spread", b"{}"),
        ("each", b"false"),
        ("each", b"null"),
        ("join", b'{"each": [0, 0], "spread": [false, null]}'),
    ]
    assert seen[0].flow_input == b'{"q": 1}'
    assert await source.flow_input(run_id) == b'{"q": 1}'
    assert await core_world.run(run_id) == ("completed", {"join": {"n": 2}})


async def test_a_root_map_gets_one_element_per_task(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", [1, None, {"run": 2}])
    assert [task.input for task in await claim_all(source)] == [b"1", b"null", b'{"run": 2}']


async def test_a_claim_never_takes_more_than_asked_for(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", list(range(5)))
    claim = await source.claim(3, ())
    assert (len(claim.tasks), claim.read) == (3, 3)
    assert [task.task_index for task in claim.tasks] == [0, 1, 2]


async def test_visibility_follows_the_effective_timeout(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    assert await world.seconds_until_visible("one_step", task.msg_id) == pytest.approx(30 + flow_tasks.GRACE, abs=2)


async def test_a_timeout_tuned_by_update_holds_for_the_very_next_claim(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 500")
    await world.start("one_step")
    (task,) = await claim_all(source)
    assert task.timeout == 500
    assert await world.seconds_until_visible("one_step", task.msg_id) == pytest.approx(500 + flow_tasks.GRACE, abs=2)
    assert task.visible_at.timestamp() == pytest.approx((await world.now()).timestamp() + 500 + flow_tasks.GRACE, abs=2)
    await world.owner.execute("UPDATE pgflow.steps SET opt_timeout = 90, opt_max_attempts = 7")
    await world.start("one_step")
    (task,) = await claim_all(source, held=[task.msg_id])
    assert (task.timeout, task.max_attempts) == (90, 7)
    assert await world.seconds_until_visible("one_step", task.msg_id) == pytest.approx(90 + flow_tasks.GRACE, abs=2)


async def test_a_task_whose_claim_reply_was_lost_is_given_back(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    run_id = await world.start("root_map", [1, 2])
    first, _ = await claim_all(source)
    claim = await source.claim(10, [first.msg_id])
    assert claim.returned == 1
    (again,) = await claim_all(source, held=[first.msg_id])
    assert (again.task_index, again.attempt, again.losses) == (1, 1, 0)
    assert (await world.task(run_id, "element"))["status"] == "started"


async def test_a_reply_lost_with_the_connection_is_given_back_by_the_next_claim(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    real = flow_tasks.owned_tasks

    async def lose_the_reply(*_: object, **__: object) -> list[flow_tasks.OwnedTask]:
        raise asyncpg.ConnectionDoesNotExistError("cut after the commit")

    monkeypatch.setattr(flow_tasks, "owned_tasks", lose_the_reply)
    with pytest.raises(DatabaseUnavailableError):
        await source.claim(1, ())
    monkeypatch.setattr(flow_tasks, "owned_tasks", real)
    assert (await source.claim(1, ())).returned == 1
    (task,) = await claim_all(source)
    assert task.attempt == 1


async def test_a_new_incarnation_under_an_old_id_gives_back_what_the_old_one_held(world: World) -> None:
    await world.create(one_step)
    worker_id = uuid4()
    old = await world.source(one_step, worker_id=worker_id)
    await world.start("one_step")
    await claim_all(old)
    new = await world.source(one_step, worker_id=worker_id)
    assert (await new.claim(1, ())).returned == 1
    assert len(await claim_all(new)) == 1


async def test_the_claim_of_an_unregistered_worker_is_refused(world: World) -> None:
    await world.create(one_step)
    source = FlowSource(flow=one_step, worker_id=uuid4(), links=world.links())
    await source.prepare()
    await world.start("one_step")
    with pytest.raises(DatabaseUnavailableError, match="not registered"):
        await source.claim(1, ())


async def test_an_unknown_flow_is_refused_with_the_command_that_helps(world: World) -> None:
    with pytest.raises(UnknownFlowError, match="flowworker flows compile"):
        await world.source(one_step)


async def test_the_input_of_an_unknown_run_is_refused(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    with pytest.raises(UnknownRunError):
        await source.flow_input(UUID(int=0))


async def test_a_step_unknown_here_is_left_for_others(world: World) -> None:
    await world.create(one_step)
    await world.owner.execute("SELECT pgflow.add_step('one_step', 'other')")
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    claim = await source.claim(10, ())
    assert (len(claim.tasks), claim.read, claim.unstartable) == (1, 2, 1)
    assert (await world.task(run_id, "other"))["status"] == "queued"
    other = (await world.task(run_id, "other"))["message_id"]
    assert 0 < await world.seconds_until_visible("one_step", other) <= flow_tasks.READ_VISIBILITY


async def test_a_message_whose_run_has_ended_is_archived(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    await world.start("wide")
    left, *_ = await claim_all(source, limit=1)
    await finish_one(source, left, failed())
    await world.owner.execute("SELECT pgmq.send('wide', a.message) FROM pgmq.a_wide a")
    await world.owner.execute("UPDATE pgflow.step_tasks t SET message_id = q.msg_id FROM pgmq.q_wide q "
                              "WHERE q.message->>'step_slug' = t.step_slug")  # fmt: skip
    claim = await source.claim(10, ())
    assert (claim.tasks, claim.unstartable) == ([], 3)
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_wide") == 0


async def test_a_foreign_message_is_kept_read_ever_more_rarely_and_warned_about_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    msg_id = await world.send("one_step", {"not": "ours"})
    waits: list[float] = []
    for _ in range(5):
        await world.make_visible("one_step")
        claim = await source.claim(1, ())
        assert (claim.tasks, claim.unstartable) == ([], 1)
        waits.append(await world.seconds_until_visible("one_step", msg_id))
    assert waits == sorted(waits)
    assert waits[-1] > 100
    assert [record.getMessage() for record in caplog.records if "belongs to no task" in record.getMessage()] != []
    assert len(caplog.records) == 1


@pytest.mark.parametrize("body", [[], "text", 7, None, {"step_slug": 5}, {"step_slug": "only"}])
async def test_a_malformed_message_does_no_harm(world: World, body: object) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.send("one_step", body)
    await world.start("one_step")
    claim = await source.claim(10, ())
    assert (len(claim.tasks), claim.unstartable) == (1, 1)


REFUSE = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.run_id = '{run}' THEN RAISE 'not this one'; END IF; RETURN NEW; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""


@pytest.mark.parametrize("aside", ["free", "taken by another flow"])
async def test_a_task_that_cannot_be_claimed_is_put_off_and_the_others_go_on(world: World, aside: str) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    others_claim = asyncio.create_task(hold_aside(source)) if aside != "free" else None
    poison = await world.start("one_step")
    others = [await world.start("one_step") for _ in range(3)]
    await world.owner.execute(REFUSE.format(run=poison))
    claimed: list[UUID | None] = []

    async def all_others() -> bool:
        try:
            claimed.extend(task.run_id for task in (await source.claim(10, ())).tasks)
        except asyncpg.RaiseError:
            return False
        return len(claimed) == len(others)

    await until(all_others, "the others are claimed")
    assert set(claimed) == set(others)
    row = await world.task(poison, "only")
    ours = (await world.headers("one_step", row["message_id"]))["flowworker"]
    assert (row["status"], ours["parks"]) == ("queued", 1)
    assert "not this one" in ours["parked"]
    assert 30 < await world.seconds_until_visible("one_step", row["message_id"]) <= PARKED_FOR
    if others_claim is not None:
        assert not others_claim.done()
        others_claim.cancel()
        await asyncio.wait({others_claim})


async def test_a_claim_that_takes_too_long_is_repeated_aside_for_less(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    async with world.owner.transaction():
        await world.owner.execute("LOCK TABLE pgflow.step_tasks")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await source.claim(10, ())
    assert len(await claim_all(source)) == 1
    assert await world.owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'aside%'") == 1


async def test_the_message_of_a_task_running_elsewhere_is_put_off(world: World) -> None:
    await world.create(one_step)
    holder, other = await world.source(one_step), await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(holder)
    await world.make_visible("one_step")
    assert (await other.claim(1, ())).unstartable == 1
    assert await world.seconds_until_visible("one_step", task.msg_id) > flow_tasks.GRACE


async def test_a_task_queued_during_the_claim_is_claimed_at_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Makes the constraint fail for real: the task claims to be queued after the claiming transaction began."""
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    await world.owner.execute(
        "UPDATE pgflow.step_tasks SET queued_at = clock_timestamp() + interval '40 milliseconds' WHERE run_id = $1",
        run_id,
    )
    tasks: list[object] = []
    async with asyncio.timeout(10):
        while not tasks:
            tasks.extend(await claim_all(source))
    assert not caplog.records


async def test_what_is_held_is_prolonged_and_what_was_lost_is_named(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", [1, 2])
    first, second = await claim_all(source)
    await finish_one(source, second, failed())
    await world.make_visible("root_map")
    assert await prolong(source, [first, second]) == {second.msg_id}
    assert await world.seconds_until_visible("root_map", first.msg_id) > 10


async def test_what_is_held_of_a_run_that_has_ended_is_lost(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    await world.start("wide")
    left, middle, right = await claim_all(source)
    await finish_one(source, left, failed())
    assert await prolong(source, [middle, right]) == {middle.msg_id, right.msg_id}


async def test_next_due_is_the_earliest_message_still_invisible(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    assert await source.next_due() is None
    await world.start("one_step")
    assert await source.next_due() is None
    (task,) = await claim_all(source)
    assert await source.next_due() == pytest.approx(40, abs=2)
    await finish_one(source, task, failed(retry_after=7))
    assert await source.next_due() == pytest.approx(7, abs=1)


async def test_a_source_says_what_it_serves(world: World) -> None:
    source = FlowSource(flow=one_step, worker_id=uuid4(), links=world.links())
    assert (source.kind, source.slug, source.queue_name) == (SourceKind.FLOW, "one_step", "one_step")


async def test_a_broken_connection_is_replaced(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    await world.owner.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with suppress(DatabaseUnavailableError):  # unless the end of the connection was seen before
        await source.claim(1, [task.msg_id])
    assert (await source.claim(1, [task.msg_id])).returned == 0
    finish = await source.finish([TaskResult(task=task, outcome=completed())])
    assert finish.receipts[0].verdict == "completed"
