"""Writing the results of a flow's tasks behind the fence."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from tests.integration.sources.flows import fan, one_step, root_map, wide
from tests.integration.sources.world import RELEASED, World, claim_all, completed, failed, finish_one, for_each_outcome

from flowworker.database import flow_results
from flowworker.database.identifiers import insert_channel
from flowworker.database.records import Completed, RunStatus, TaskResult, Verdict
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.source import Trouble


@pytest.mark.parametrize("output", [None, False, 0, "", [], {}, "täxt", {"a": [1.5, None]}])
async def test_outputs_are_stored_as_they_are(world: World, output: object) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, completed(output))
    assert (receipt.verdict, receipt.error) == (Verdict.COMPLETED, None)
    assert await world.run(run_id) == ("completed", {"only": output})


async def test_a_batch_ends_several_tasks_of_one_run_at_once(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    run_id = await world.start("wide")
    tasks = await claim_all(source)
    finish = await source.finish([TaskResult(task=task, outcome=completed(1)) for task in tasks])
    assert [receipt.verdict for receipt in finish.receipts] == [Verdict.COMPLETED] * 3
    assert [(end.run_id, end.status) for end in finish.ended_runs] == [(run_id, RunStatus.COMPLETED)]
    assert finish.ended_runs[0].duration > 0


async def test_only_the_result_that_ends_a_run_reports_its_end(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    await world.start("wide")
    ends = [
        len((await source.finish([TaskResult(task=task, outcome=completed(1))])).ended_runs)
        for task in await claim_all(source)
    ]
    assert ends == [0, 0, 1]


async def test_receipts_come_in_the_order_of_the_results(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", list(range(6)))
    tasks = await claim_all(source)
    outcomes = [failed(), completed(), RELEASED, completed(), failed(), RELEASED]
    finish = await source.finish([TaskResult(task=t, outcome=o) for t, o in zip(tasks, outcomes, strict=True)])
    assert [receipt.result.task.task_index for receipt in finish.receipts] == list(range(6))
    assert [receipt.verdict for receipt in finish.receipts] == [
        Verdict.RETRYING, Verdict.COMPLETED, Verdict.RELEASED, Verdict.COMPLETED, Verdict.RETRYING, Verdict.RELEASED,
    ]  # fmt: skip


async def test_a_failed_attempt_waits_for_its_backoff(world: World) -> None:
    await world.create(one_step)
    await world.owner.execute("UPDATE pgflow.flows SET opt_base_delay = 3")
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, failed("no luck"))
    assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, 6)
    assert await world.seconds_until_visible("one_step", task.msg_id) == pytest.approx(6, abs=1)
    assert (await world.task(run_id, "only"))["error_message"] == "no luck"


async def test_the_last_attempt_fails_the_run_with_its_message(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    for attempt in (1, 2):
        (task,) = await claim_all(source)
        assert task.attempt == attempt
        assert (await finish_one(source, task, failed())).verdict is Verdict.RETRYING
    (task,) = await claim_all(source)
    finish = await source.finish([TaskResult(task=task, outcome=failed("the end"))])
    assert (finish.receipts[0].verdict, finish.receipts[0].retry_in) == (Verdict.FAILED, None)
    assert [(end.run_id, end.status, end.error) for end in finish.ended_runs] == [(run_id, RunStatus.FAILED, "the end")]
    assert (await world.run(run_id))[0] == "failed"


async def test_a_handler_chooses_the_delay_of_the_next_attempt(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, failed(retry_after=119.2))
    assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, 120)
    assert await world.seconds_until_visible("one_step", task.msg_id) == pytest.approx(120, abs=1)


async def test_a_chosen_delay_means_nothing_at_the_last_attempt(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    run_id = await world.start("wide")
    (task,) = await claim_all(source, limit=1)
    assert (await finish_one(source, task, failed(retry_after=10))).verdict is Verdict.FAILED
    assert (await world.run(run_id))[0] == "failed"


async def test_an_endless_delay_is_cut_to_what_postgresql_holds(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, failed(retry_after=1e300))
    assert receipt.retry_in == flow_results.LONGEST_DELAY


async def test_a_final_failure_ends_the_run_although_attempts_are_left(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    finish = await source.finish([TaskResult(task=task, outcome=failed("no such account", final=True))])
    assert finish.receipts[0].verdict is Verdict.FAILED
    assert finish.ended_runs[0].error == "no such account"
    row = await world.task(run_id, "only")
    assert (row["status"], row["attempts_count"], row["error_message"]) == ("failed", 3, "no such account")


async def test_several_final_failures_of_one_run_in_one_batch(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    run_id = await world.start("root_map", [1, 2, 3])
    tasks = await claim_all(source)
    finish = await source.finish([TaskResult(task=task, outcome=failed(final=True)) for task in tasks])
    assert finish.receipts[0].verdict is Verdict.FAILED
    assert [end.run_id for end in finish.ended_runs] == [run_id]


async def test_a_released_task_is_startable_at_once_and_its_attempt_not_charged(world: World) -> None:
    await world.create(one_step)
    source, other = await world.source(one_step), await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    assert (await finish_one(source, task, RELEASED)).verdict is Verdict.RELEASED
    (again,) = await claim_all(other)
    assert (again.msg_id, again.attempt, again.losses) == (task.msg_id, 1, 0)


async def test_a_release_wakes_sleepers(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    heard = await world.heard(insert_channel("one_step"))
    await finish_one(source, task, RELEASED)
    async with asyncio.timeout(5):
        assert await heard.get() == insert_channel("one_step")


@pytest.mark.parametrize(
    "outcome", [completed(1), failed(), failed(final=True), RELEASED], ids=lambda o: type(o).__name__
)
async def test_a_late_result_of_a_dead_attempt_changes_nothing(world: World, outcome: object) -> None:
    await world.create(one_step)
    source, other = await world.source(one_step), await world.source(one_step)
    run_id = await world.start("one_step")
    (stale,) = await claim_all(source)
    await finish_one(source, stale, RELEASED)
    (current,) = await claim_all(other)
    before = await world.task(run_id, "only")
    receipt = await finish_one(source, stale, outcome)  # pyright: ignore[reportArgumentType]
    assert receipt.verdict is Verdict.SUPERSEDED
    assert await world.task(run_id, "only") == before
    assert (await finish_one(other, current, completed(2))).verdict is Verdict.COMPLETED


async def test_the_same_worker_s_next_claim_is_another_attempt_to_the_fence(world: World) -> None:
    """A release makes the next claim carry the same worker and the same attempt number: only started_at differs."""
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (stale,) = await claim_all(source)
    await finish_one(source, stale, RELEASED)
    (current,) = await claim_all(source)
    assert (current.attempt, current.msg_id) == (stale.attempt, stale.msg_id)
    assert (await finish_one(source, stale, completed("stale"))).verdict is Verdict.SUPERSEDED
    assert (await finish_one(source, current, completed("current"))).verdict is Verdict.COMPLETED
    assert await world.run(run_id) == ("completed", {"only": "current"})


async def test_results_of_a_run_that_has_failed_are_superseded(world: World) -> None:
    await world.create(wide)
    source = await world.source(wide)
    await world.start("wide")
    left, middle, right = await claim_all(source)
    await finish_one(source, left, failed())
    for task, outcome in ((middle, completed(1)), (right, failed())):
        assert (await finish_one(source, task, outcome)).verdict is Verdict.SUPERSEDED


@for_each_outcome
async def test_repeating_a_write_whose_reply_was_lost_reports_what_was_written(
    world: World, outcome: Completed, verdict: Verdict
) -> None:
    await world.create(one_step)
    await world.owner.execute("UPDATE pgflow.flows SET opt_base_delay = 60")
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    results = [TaskResult(task=task, outcome=outcome)]
    first = await source.finish(results)
    before = await world.task(run_id, "only")
    again = await source.finish(results)
    assert [first.receipts[0].verdict, again.receipts[0].verdict] == [verdict, verdict]
    assert (again.receipts[0].retry_in is not None) == (verdict is Verdict.RETRYING)  # None would mean: for good
    assert first.ended_runs == again.ended_runs
    assert await world.task(run_id, "only") == before


async def test_a_step_that_feeds_a_map_and_returns_no_list_fails_the_run(world: World) -> None:
    """A type violation: core 0.8 returns no row for it."""
    await world.create(fan)
    source = await world.source(fan)
    run_id = await world.start("fan")
    (task,) = await claim_all(source)
    finish = await source.finish([TaskResult(task=task, outcome=completed({"no": "list"}))])
    assert finish.receipts[0].verdict is Verdict.FAILED
    assert finish.receipts[0].error == "[TYPE_VIOLATION] Produced object instead of array"
    assert [(end.run_id, end.status) for end in finish.ended_runs] == [(run_id, RunStatus.FAILED)]


@pytest.mark.parametrize("output", [b'{"zero": "\\u0000"}', b"{broken", b"NaN"])
async def test_an_output_the_database_refuses_fails_that_attempt_alone(world: World, output: bytes) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    run_id = await world.start("root_map", [1, 2, 3])
    tasks = await claim_all(source)
    outcomes = [completed(1), Completed(output=output, duration=0.1), completed(3)]
    finish = await source.finish([TaskResult(task=t, outcome=o) for t, o in zip(tasks, outcomes, strict=True)])
    assert [receipt.verdict for receipt in finish.receipts] == [
        Verdict.COMPLETED, Verdict.RETRYING, Verdict.COMPLETED,
    ]  # fmt: skip
    assert "the database refused" in (finish.receipts[1].error or "")
    assert "the database refused the output" in (await world.task(run_id, "element", 1))["error_message"]


async def test_an_error_text_postgresql_cannot_hold_is_repaired(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    assert (await finish_one(source, task, failed("zero \0 and \ud800"))).verdict is Verdict.RETRYING
    assert (await world.task(run_id, "only"))["error_message"] == "zero \N{REPLACEMENT CHARACTER} and ?"


async def test_a_backoff_beyond_postgresql_s_integers_ends_the_task(world: World) -> None:
    await world.create(one_step)
    await world.owner.execute("UPDATE pgflow.flows SET opt_max_attempts = 1000, opt_base_delay = 1000000")
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    await world.owner.execute("UPDATE pgflow.step_tasks SET attempts_count = 40")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, failed("boom"))
    assert receipt.verdict is Verdict.FAILED
    assert "out of range" in (receipt.error or "")
    assert (await world.task(run_id, "only"))["error_message"].startswith("boom")


async def test_a_write_is_repeated_after_a_deadlock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    real, calls = flow_results.complete, 0

    async def deadlock_once(*args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return await real(*args, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(flow_results, "complete", deadlock_once)
    assert (await finish_one(source, task, completed(1))).verdict is Verdict.COMPLETED
    assert calls == 2


async def test_a_cut_connection_leaves_the_write_to_be_repeated(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    await finish_one(source, task, completed(1))
    await world.owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'finish%'"
    )
    with pytest.raises(DatabaseUnavailableError):
        await finish_one(source, task, completed(1))
    assert (await finish_one(source, task, completed(1))).verdict is Verdict.COMPLETED
    assert (await world.run(run_id))[0] == "completed"


async def test_missing_rights_are_not_mistaken_for_a_bad_output(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    run_id = await world.start("one_step")
    (task,) = await claim_all(source)
    await world.owner.execute("REVOKE UPDATE ON pgflow.runs FROM flowworker_worker")
    finish = await source.finish([TaskResult(task=task, outcome=completed(1))])
    assert finish.receipts == []
    (unsettled,) = finish.unsettled
    assert (unsettled.trouble, unsettled.alone) == (Trouble.FORBIDDEN, True)
    assert "permission denied for table runs" in unsettled.error
    assert (await world.task(run_id, "only"))["status"] == "started"


async def test_a_result_of_a_deleted_run_is_superseded(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    for table in ("step_tasks", "step_states", "runs"):
        await world.owner.execute(f"DELETE FROM pgflow.{table}")
    receipt = await finish_one(source, task, completed(1))
    assert (receipt.verdict, receipt.error) == (Verdict.SUPERSEDED, "the task no longer exists")


async def test_a_large_output_is_written(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    receipt = await finish_one(source, task, completed("x" * 10_000_000))
    assert receipt.verdict is Verdict.COMPLETED


async def test_finishing_works_on_every_core(core_world: World) -> None:
    await core_world.create(root_map)
    source = await core_world.source(root_map, worker_id=uuid4())
    run_id = await core_world.start("root_map", [1, 2, 3])
    first, second, third = await claim_all(source)
    assert (await finish_one(source, first, completed(1))).verdict is Verdict.COMPLETED
    assert (await finish_one(source, second, RELEASED)).verdict is Verdict.RELEASED
    assert (await finish_one(source, third, failed(final=True))).verdict is Verdict.FAILED
    assert (await core_world.run(run_id))[0] == "failed"
