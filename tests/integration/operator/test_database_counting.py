"""What is counted: startable, in flight, stalled, delayed, depth; and what is not."""

from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest
from tests.conftest import WORKER_ROLE, Database
from tests.integration.operator.observer import MALFORMED, asking, demand, read, report, send, subject
from tests.integration.sources.flows import one_step, root_map, wide
from tests.integration.sources.world import World, claim_all, failed, finish_one

from flowworker.database.grants import grant
from flowworker.database.install import install
from flowworker.database.packaged import Component
from flowworker.database.probe import FOREIGN_PATIENCE, RECOVERY_TAKES, SPARE
from flowworker.definition.flow import Flow
from flowworker_operator.domain.snapshot import Demand

ONE = subject("one_step")
MAIL = subject("mail", "queue")

TENDED = timedelta(seconds=RECOVERY_TAKES + 10)
SET_HEADERS = "UPDATE pgmq.q_mail SET headers = $2::jsonb WHERE msg_id = $1"

slow_start = Flow("slow_start", timeout=45)


@slow_start.step(start_delay=600, timeout=90)
async def later(value: object) -> object:
    return value


@slow_start.step
async def soon(value: object) -> object:
    return value


@pytest.fixture
async def one(world: World) -> World:
    """A flow with three runs that no worker works on."""
    await world.create(one_step)
    for _ in range(3):
        await world.start("one_step")
    return world


async def held(world: World, *, count: int = 1, flow: Flow = one_step) -> UUID:
    """Let a worker hold this many tasks; its id."""
    worker_id = uuid4()
    source = await world.source(flow, worker_id=worker_id)
    assert len(await claim_all(source, limit=count)) == count
    return worker_id


async def age(world: World, worker_id: UUID, seconds: float) -> None:
    """Let a worker's life have taken place earlier."""
    await world.owner.execute(
        "UPDATE flowworker.workers "
        "SET started_at = started_at - $2::interval, reported_at = reported_at - $2::interval WHERE worker_id = $1",
        worker_id, timedelta(seconds=seconds),
    )  # fmt: skip


async def test_every_core_is_counted_alike(core_world: World) -> None:
    await core_world.create(one_step)
    for _ in range(5):
        await core_world.start("one_step")
    await held(core_world, count=2)
    found = await demand(core_world.database, ONE)
    assert (found.startable, found.in_flight, found.stalled, found.delayed) == (3, 2, 0, 0)
    assert (found.depth, found.due_in) == (3, None)


async def test_queued_tasks_of_started_runs_are_startable_since_they_became_visible(one: World) -> None:
    found = await demand(one.database, ONE)
    oldest = await one.owner.fetchval("SELECT min(vt) FROM pgmq.q_one_step")
    assert found == Demand(startable=3, depth=3, oldest_startable_at=oldest)


async def test_a_running_task_is_in_flight_and_not_startable_even_when_its_message_is_visible(one: World) -> None:
    await held(one, count=2)
    await one.make_visible("one_step")
    found = await demand(one.database, ONE)
    assert (found.startable, found.in_flight, found.depth) == (1, 2, 3)


async def test_what_is_due_later_is_delayed(world: World) -> None:
    await world.create(slow_start)
    await world.start("slow_start")
    found = await demand(world.database, subject("slow_start"))
    assert (found.startable, found.delayed, found.depth) == (1, 1, 1)
    assert found.due_in == pytest.approx(600, abs=20)


async def test_a_running_task_is_not_delayed(one: World) -> None:
    await held(one, count=3)
    found = await demand(one.database, ONE)
    assert (found.delayed, found.due_in, found.in_flight) == (0, None, 3)


async def test_a_retry_is_due_after_its_backoff(one: World) -> None:
    source = await one.source(one_step)
    (task,) = await claim_all(source, limit=1)
    await finish_one(source, task, failed(retry_after=30))
    found = await demand(one.database, ONE)
    assert (found.startable, found.in_flight, found.delayed) == (2, 0, 1)
    assert found.due_in == pytest.approx(30, abs=10)


async def test_leftovers_of_a_failed_run_count_nothing(world: World) -> None:
    await world.create(wide)
    await world.start("wide")
    source = await world.source(wide)
    first, *_ = await claim_all(source, limit=2)
    await finish_one(source, first, failed())
    left = await world.owner.fetch("SELECT status FROM pgflow.step_tasks WHERE status IN ('queued', 'started')")
    assert len(left) == 2
    assert await demand(world.database, subject("wide")) == Demand()


async def test_ghosts_take_no_part_of_the_cap(one: World) -> None:
    body = await one.owner.fetchval("SELECT message FROM pgmq.q_one_step LIMIT 1")
    for _ in range(4):
        await send(one.owner, "one_step", orjson.loads(body))
    await one.owner.execute("UPDATE pgmq.q_one_step SET vt = vt - interval '1 hour' WHERE msg_id > 3")
    found = await demand(one.database, subject("one_step", cap=3))
    assert (found.startable, found.depth) == (3, 3)


async def test_behind_more_ghosts_than_are_looked_at_something_startable_is_assumed(one: World) -> None:
    await one.owner.execute(
        "INSERT INTO pgmq.q_one_step (read_ct, enqueued_at, vt, message) "
        "SELECT 0, now(), now() - interval '1 hour', '{}' FROM generate_series(1, $1)",
        SPARE + 3,
    )
    assert (await demand(one.database, subject("one_step", cap=3))).startable == 1
    assert (await demand(one.database, subject("one_step", cap=6))).startable == 3


async def test_messages_that_are_no_task_s_are_depth_and_nothing_else(world: World) -> None:
    await world.create(one_step)
    for body in MALFORMED:
        await world.owner.execute("SELECT pgmq.send('one_step', $1::jsonb)", body.encode())
        await world.owner.execute("SELECT pgmq.send('one_step', $1::jsonb, 600)", body.encode())
    assert await demand(world.database, ONE) == Demand(depth=len(MALFORMED))


async def test_ids_of_messages_are_not_mixed_up_between_flows(one: World) -> None:
    await one.create(root_map)
    await one.start("root_map", [1, 2])
    await held(one, count=3)
    async with asking(one.database, ONE, subject("root_map")) as asker:
        first, second = await asker.samples()
    assert (first.startable, first.in_flight) == (0, 3)
    assert (second.startable, second.in_flight) == (2, 0)


async def test_every_count_ends_at_the_cap(world: World) -> None:
    await world.create(root_map)
    await world.start("root_map", list(range(30)))
    await held(world, count=10, flow=root_map)
    await world.owner.execute(
        "UPDATE pgmq.q_root_map SET vt = clock_timestamp() + interval '1 hour' WHERE msg_id BETWEEN 20 AND 29"
    )
    found = await demand(world.database, subject("root_map", cap=4))
    assert (found.startable, found.in_flight, found.delayed, found.depth) == (4, 4, 4, 4)


@pytest.mark.parametrize("catalogue", ["0.13", "0.14", "0.17"], indirect=True)
async def test_a_task_that_stalled_for_good_is_stalled_and_never_in_flight(core_world: World) -> None:
    await core_world.create(one_step)
    await core_world.start("one_step")
    await held(core_world)
    await core_world.owner.execute("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    found = await demand(core_world.database, ONE)
    assert (found.in_flight, found.stalled) == (0, 1)


@pytest.mark.parametrize("catalogue", ["0.14"], indirect=True)
async def test_a_started_task_of_a_step_that_was_skipped_is_stalled(core_world: World) -> None:
    await core_world.create(one_step)
    await core_world.start("one_step")
    await held(core_world)
    await core_world.owner.execute(
        "UPDATE pgflow.step_states SET status = 'skipped', skip_reason = 'handler_failed', skipped_at = now(), "
        "remaining_tasks = NULL"
    )
    found = await demand(core_world.database, ONE)
    assert (found.in_flight, found.stalled) == (0, 1)


@pytest.mark.parametrize("state", ["lost", "stopped"])
async def test_an_orphaned_task_is_in_flight_until_a_worker_could_have_recovered_it(one: World, state: str) -> None:
    dead = await held(one)
    await one.owner.execute("UPDATE flowworker.workers SET state = $1", state)
    await age(one, dead, 3600)
    assert (await demand(one.database, ONE)).in_flight == 1
    young = await report(one.owner)
    assert (await demand(one.database, ONE)).in_flight == 1, "it has just come"
    await one.owner.execute(
        "UPDATE flowworker.workers SET started_at = started_at - $2::interval WHERE worker_id = $1", young, TENDED
    )
    found = await demand(one.database, ONE)
    assert (found.in_flight, found.stalled) == (0, 1)
    await one.owner.execute("UPDATE flowworker.workers SET state = 'stopped' WHERE worker_id = $1", young)
    assert (await demand(one.database, ONE)).stalled == 1, "else it would be scaled up for again and again"


async def test_a_foreign_worker_s_task_is_stalled_only_past_its_timeout(one: World) -> None:
    foreign = await held(one)
    await one.owner.execute("DELETE FROM flowworker.workers")
    watcher = await report(one.owner)
    await age(one, watcher, 7200)
    await one.owner.execute("UPDATE flowworker.workers SET reported_at = now()")
    assert (await demand(one.database, ONE)).in_flight == 1
    passed = timedelta(seconds=one_step.options.timeout + FOREIGN_PATIENCE) + TENDED
    await one.owner.execute(
        "UPDATE pgflow.step_tasks SET queued_at = queued_at - $2::interval, started_at = started_at - $2::interval "
        "WHERE last_worker_id = $1",
        foreign, passed,
    )  # fmt: skip
    found = await demand(one.database, ONE)
    assert (found.in_flight, found.stalled) == (0, 1)


async def test_leftovers_do_not_hide_what_runs(one: World) -> None:
    await held(one, count=2)
    await one.owner.execute(
        "INSERT INTO pgflow.runs (run_id, flow_slug, status, input, remaining_steps, started_at, failed_at) "
        "SELECT md5(n::text)::uuid, 'one_step', 'failed', '{}', 1, now() - interval '1 hour', now() "
        "FROM generate_series(1, 2000) n"
    )
    await one.owner.execute(
        "INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, remaining_tasks, "
        "status, started_at) SELECT 'one_step', md5(n::text)::uuid, 'only', 0, 1, 1, 'started', now() "
        "FROM generate_series(1, 2000) n"
    )
    fill = (
        "INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, message_id, status, attempts_count, queued_at, "
        "started_at) SELECT 'one_step', md5(n::text)::uuid, 'only', 100 + n, 'started', 1, now() - interval '2 hours', "
        "clock_timestamp() + $1::interval FROM generate_series(1, 2000) n"
    )
    await one.owner.execute(fill, timedelta(hours=-1))
    assert (await demand(one.database, ONE)).in_flight == 2
    await one.owner.execute(
        "UPDATE pgflow.step_tasks SET started_at = now() + interval '1 minute' WHERE message_id > 99"
    )
    await one.owner.execute("UPDATE flowworker.workers SET in_flight = 2")
    assert (await demand(one.database, ONE)).in_flight == 2, "the workers' own word counts when the rest is cut off"


async def test_the_longest_timeout_is_the_longest_effective_one(world: World) -> None:
    await world.create(slow_start)
    assert (await read(world.database, subject("slow_start"))).longest_timeout == 90
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 600")
    assert (await read(world.database, subject("slow_start"))).longest_timeout == 600


async def test_how_long_a_job_may_take_is_what_its_workers_report(world: World) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    assert (await read(world.database, MAIL)).longest_timeout is None
    await report(world.owner, kind="queue", slug="mail")
    await world.owner.execute("UPDATE flowworker.workers SET longest_timeout = 900")
    assert (await read(world.database, MAIL)).longest_timeout == 900


async def test_a_worker_that_runs_a_last_attempt_is_distinguished(one: World) -> None:
    ids = [await held(one) for _ in range(2)]
    for number, worker_id in enumerate(ids):
        await one.owner.execute(
            "UPDATE flowworker.workers SET pod_uid = $2, namespace = 'shop', flowworker = 'one-step' "
            "WHERE worker_id = $1",
            worker_id, f"pod {number}",
        )  # fmt: skip
    await one.owner.execute("UPDATE pgflow.step_tasks SET attempts_count = 3 WHERE last_worker_id = $1", ids[1])
    reports = (await read(one.database, ONE)).reports
    assert {pod: one.on_last_attempt for pod, one in reports.items()} == {"pod 0": False, "pod 1": True}


async def test_a_flow_that_is_not_compiled_yet_has_nothing_to_do(world: World) -> None:
    found = await read(world.database, subject("unheard_of"), queues=False)
    assert (found.demand, found.longest_timeout, found.schema_fault) == (Demand(), None, None)


async def test_jobs_are_startable_running_or_delayed(world: World) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    ids = [await send(world.owner, "mail") for _ in range(4)]
    await send(world.owner, "mail", delay=300)
    await world.owner.execute("SELECT pgmq.read('mail', 30, 2)")
    await world.owner.execute(SET_HEADERS, ids[0], b'{"flowworker": {"failures": 1}}')
    await report(world.owner, kind="queue", slug="mail", in_flight=1)
    found = await demand(world.database, MAIL)
    oldest = await world.owner.fetchval("SELECT min(vt) FROM pgmq.q_mail")
    assert (found.startable, found.depth, found.delayed, found.in_flight) == (2, 2, 2, 1)
    assert found.oldest_startable_at == oldest
    assert found.due_in == pytest.approx(30, abs=10)


async def test_in_flight_jobs_are_what_living_workers_report(world: World) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    for state, in_flight in {"running": 3, "draining": 2, "stopped": 5, "lost": 7}.items():
        await report(world.owner, kind="queue", slug="mail", state=state, in_flight=in_flight)
    await report(world.owner, kind="queue", slug="other", in_flight=11)
    assert (await demand(world.database, MAIL)).in_flight == 5
    assert (await demand(world.database, subject("mail", "queue", cap=4))).in_flight == 4


async def test_headers_of_any_shape_break_no_count(world: World) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    for headers in ("7", '"x"', '{"flowworker": 1}', '{"flowworker": {"failures": "many", "releases": 1e99}}'):
        sent = await send(world.owner, "mail", delay=300)
        await world.owner.execute(
            "UPDATE pgmq.q_mail SET headers = $2::jsonb WHERE msg_id = $1", sent, headers.encode()
        )
    assert (await demand(world.database, MAIL)).delayed == 4


async def test_queues_are_read_in_a_database_without_pgflow(empty_database: Database) -> None:
    owner = await empty_database.connect()
    for component in (Component.FLOWWORKER, Component.PGMQ):
        await install(owner, only=component)
    await owner.execute("SELECT pgmq.create('mail')")
    await send(owner, "mail")
    await grant(owner, WORKER_ROLE)
    assert (await demand(empty_database, MAIL)).startable == 1
    await owner.close()
