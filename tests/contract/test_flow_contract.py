"""What every source of a flow promises."""

from uuid import uuid4

import orjson
import pytest
from tests.contract.backends import Backend
from tests.integration.sources.flows import fan, one_step, root_map, wide
from tests.integration.sources.world import RELEASED, claim_all, completed, drive, failed, finish_one

from flowworker.database.records import RunStatus, SourceKind, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.errors import UnknownRunError

nested = Flow("nested", max_attempts=1, base_delay=0, timeout=30)


@nested.step
async def source(value: object) -> list[int]:
    return []


@nested.map(over=source)
async def inner(element: int) -> int:
    return element


@nested.map(over=inner)
async def outer(element: int) -> int:
    return element


@nested.step
async def total(outer: list[int], source: list[int]) -> int:
    return 0


patient = Flow("patient", max_attempts=3, base_delay=2, timeout=30)


@patient.step(start_delay=60, timeout=7, max_attempts=2)
async def later(value: object) -> object:
    return value


def values(tasks: list[tuple[str, bytes]]) -> list[tuple[str, object]]:
    return [(step, orjson.loads(text)) for step, text in tasks]


async def test_a_source_says_what_it_serves(backend: Backend) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    assert (made.kind, made.slug, made.queue_name) == (SourceKind.FLOW, "one_step", "one_step")


async def test_a_run_goes_from_its_root_through_a_map_to_its_end(backend: Backend) -> None:
    await backend.add(fan)
    made = await backend.source(fan)
    run_id = await backend.start("fan", {"q": 1})
    outputs = {"spread": [1, None, {"a": 2}], "each": 0, "join": "done"}
    seen = await drive(made, lambda task: completed(outputs[task.step_slug]))
    assert values([(task.step_slug, task.input) for task in seen]) == [
        ("spread", {}),
        ("each", 1),
        ("each", None),
        ("each", {"a": 2}),
        ("join", {"each": [0, 0, 0], "spread": [1, None, {"a": 2}]}),
    ]
    assert orjson.loads(seen[0].flow_input or b"0") == {"q": 1}
    assert orjson.loads(await made.flow_input(run_id)) == {"q": 1}
    assert await backend.run(run_id) == ("completed", {"join": "done"})


async def test_maps_over_maps_and_empty_lists_cascade(backend: Backend) -> None:
    await backend.add(nested)
    made = await backend.source(nested)
    for length in (0, 2):
        run_id = await backend.start("nested")
        outputs = {"source": [5] * length, "inner": 6, "outer": 7, "total": 8}
        seen = await drive(made, lambda task, outputs=outputs: completed(outputs[task.step_slug]))
        assert [task.step_slug for task in seen] == ["source", *["inner"] * length, *["outer"] * length, "total"]
        assert orjson.loads(seen[-1].input) == {"source": [5] * length, "outer": [7] * length}
        assert await backend.run(run_id) == ("completed", {"total": 8})


async def test_an_empty_root_map_completes_the_run_at_once(backend: Backend) -> None:
    await backend.add(root_map)
    run_id = await backend.start("root_map", [])
    assert await backend.run(run_id) == ("completed", {"element": []})


async def test_the_outputs_of_all_leaves_make_the_run_s_output(backend: Backend) -> None:
    await backend.add(wide)
    made = await backend.source(wide)
    run_id = await backend.start("wide")
    await drive(made, lambda task: completed(task.step_slug == "left"))
    assert await backend.run(run_id) == ("completed", {"left": True, "middle": False, "right": False})


async def test_only_the_result_that_ends_a_run_reports_its_end(backend: Backend) -> None:
    await backend.add(wide)
    made = await backend.source(wide)
    run_id = await backend.start("wide")
    finishes = [await made.finish([TaskResult(task=task, outcome=completed())]) for task in await claim_all(made)]
    assert [[end.run_id for end in finish.ended_runs] for finish in finishes] == [[], [], [run_id]]


async def test_retries_wait_longer_each_time_and_then_fail_the_run(backend: Backend) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    run_id = await backend.start("one_step")
    for attempt in (1, 2):
        (task,) = await claim_all(made)
        assert task.attempt == attempt
        assert (await finish_one(made, task, failed(f"no {attempt}"))).verdict is Verdict.RETRYING
    (task,) = await claim_all(made)
    finish = await made.finish([TaskResult(task=task, outcome=failed("no 3"))])
    assert finish.receipts[0].verdict is Verdict.FAILED
    assert [(end.run_id, end.status, end.error) for end in finish.ended_runs] == [(run_id, RunStatus.FAILED, "no 3")]
    assert await backend.tasks(run_id) == [("only", 0, "failed", 3, "no 3")]
    assert (await backend.run(run_id))[0] == "failed"


async def test_start_delay_backoff_and_step_options_hold(backend: Backend) -> None:
    await backend.add(patient)
    made = await backend.source(patient)
    await backend.start("patient")
    assert await claim_all(made) == []
    assert await made.next_due() == pytest.approx(60, abs=2)
    await backend.pass_time("patient", 60)
    (task,) = await claim_all(made)
    assert (task.timeout, task.max_attempts) == (7.0, 2)
    receipt = await finish_one(made, task, failed())
    assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, 4)
    assert await claim_all(made) == []
    assert await made.next_due() == pytest.approx(4, abs=2)
    await backend.pass_time("patient", 4)
    (task,) = await claim_all(made)
    assert (await finish_one(made, task, failed())).verdict is Verdict.FAILED
    assert await made.next_due() is None


async def test_a_handler_chooses_the_delay_or_the_end(backend: Backend) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    run_id = await backend.start("one_step")
    (task,) = await claim_all(made)
    receipt = await finish_one(made, task, failed(retry_after=100))
    assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, 100)
    assert await made.next_due() == pytest.approx(100, abs=2)
    await backend.pass_time("one_step", 100)
    (task,) = await claim_all(made)
    assert (await finish_one(made, task, failed("for good", final=True))).verdict is Verdict.FAILED
    assert await backend.tasks(run_id) == [("only", 0, "failed", 3, "for good")]


async def test_one_failure_ends_the_run_for_all_its_tasks(backend: Backend, core: str) -> None:
    await backend.add(wide)
    made = await backend.source(wide)
    run_id = await backend.start("wide")
    left, middle, right = await claim_all(made)
    await finish_one(made, left, failed("left"))
    assert await backend.prolong(made, [middle, right]) == {middle.msg_id, right.msg_id}
    assert (await finish_one(made, middle, completed())).verdict is Verdict.SUPERSEDED
    assert (await finish_one(made, right, failed())).verdict is Verdict.SUPERSEDED
    left_behind = "cancelled" if core in {"0.15", "0.16", "0.17"} else "started"
    assert await backend.tasks(run_id) == [
        ("left", 0, "failed", 1, "left"), ("middle", 0, left_behind, 1, None), ("right", 0, left_behind, 1, None),
    ]  # fmt: skip
    await backend.pass_time("wide", 1000)
    assert await claim_all(made) == []


async def test_a_released_task_starts_again_without_charging_the_attempt(backend: Backend) -> None:
    await backend.add(one_step)
    made, other = await backend.source(one_step), await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(made)
    assert (await finish_one(made, task, RELEASED)).verdict is Verdict.RELEASED
    (again,) = await claim_all(other)
    assert (again.msg_id, again.attempt, again.losses) == (task.msg_id, 1, 0)
    assert (await finish_one(made, task, completed())).verdict is Verdict.SUPERSEDED


async def test_a_late_result_of_the_same_worker_s_earlier_claim_is_refused(backend: Backend) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    run_id = await backend.start("one_step")
    (stale,) = await claim_all(made)
    await finish_one(made, stale, RELEASED)
    (current,) = await claim_all(made)
    assert (await finish_one(made, stale, completed("stale"))).verdict is Verdict.SUPERSEDED
    assert (await finish_one(made, current, completed("current"))).verdict is Verdict.COMPLETED
    assert await backend.run(run_id) == ("completed", {"only": "current"})


async def test_tasks_that_are_not_held_are_given_back(backend: Backend) -> None:
    await backend.add(root_map)
    made = await backend.source(root_map)
    await backend.start("root_map", [1, 2])
    first, _ = await claim_all(made)
    assert (await made.claim(5, [first.msg_id])).returned == 1
    (again,) = await claim_all(made, held=[first.msg_id])
    assert (again.task_index, again.attempt) == (1, 1)


async def test_a_claim_takes_at_most_what_was_asked_for_in_order(backend: Backend) -> None:
    await backend.add(root_map)
    made = await backend.source(root_map)
    await backend.start("root_map", list(range(5)))
    claim = await made.claim(3, ())
    assert ([task.task_index for task in claim.tasks], claim.read) == ([0, 1, 2], 3)


async def test_two_workers_never_share_a_task(backend: Backend) -> None:
    await backend.add(root_map)
    made, other = await backend.source(root_map), await backend.source(root_map)
    await backend.start("root_map", list(range(4)))
    taken = [task.task_index for which in (made, other) for task in await claim_all(which, limit=2)]
    assert taken == [0, 1, 2, 3]


async def test_a_type_violation_fails_the_run_at_once(backend: Backend) -> None:
    await backend.add(fan)
    made = await backend.source(fan)
    run_id = await backend.start("fan")
    (task,) = await claim_all(made)
    finish = await made.finish([TaskResult(task=task, outcome=completed("text"))])
    assert finish.receipts[0].verdict is Verdict.FAILED
    assert finish.receipts[0].error == "[TYPE_VIOLATION] Produced string instead of array"
    (end,) = finish.ended_runs
    assert (end.run_id, end.status) == (run_id, RunStatus.FAILED)
    assert end.error == "[TYPE_VIOLATION] Map step each expects array input but dependency spread produced string"


async def test_an_output_that_is_no_json_fails_that_attempt_alone(backend: Backend) -> None:
    await backend.add(root_map)
    made = await backend.source(root_map)
    await backend.start("root_map", [1, 2])
    first, second = await claim_all(made)
    broken = completed()
    object.__setattr__(broken, "output", b"NaN")
    finish = await made.finish([TaskResult(task=first, outcome=broken), TaskResult(task=second, outcome=completed())])
    assert [receipt.verdict for receipt in finish.receipts] == [Verdict.RETRYING, Verdict.COMPLETED]
    assert "the database refused" in (finish.receipts[0].error or "")


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (completed(1), Verdict.COMPLETED),
        (failed(retry_after=60), Verdict.RETRYING),
        (failed(final=True), Verdict.FAILED),
        (RELEASED, Verdict.RELEASED),
    ],
    ids=["completed", "retry", "final", "released"],
)
async def test_repeating_a_write_whose_reply_was_lost_changes_nothing(
    backend: Backend, outcome: object, verdict: Verdict
) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    run_id = await backend.start("one_step")
    (task,) = await claim_all(made)
    results = [TaskResult(task=task, outcome=outcome)]  # pyright: ignore[reportArgumentType]
    first = await made.finish(results)
    before = await backend.tasks(run_id)
    again = await made.finish(results)
    assert [first.receipts[0].verdict, again.receipts[0].verdict] == [verdict, verdict]
    assert first.ended_runs == again.ended_runs
    assert await backend.tasks(run_id) == before


async def test_a_lost_worker_s_tasks_are_released_and_the_losses_counted(backend: Backend) -> None:
    await backend.add(one_step)
    alive = await backend.source(one_step)
    run_id = await backend.start("one_step")
    for loss in range(4):
        victim_id = uuid4()
        victim = await backend.source(one_step, victim_id)
        (task,) = await claim_all(victim)
        assert (task.losses, task.attempt) == (loss, 1)
        recovery = await alive.recover([await backend.peer(victim_id)])
        assert (recovery.released, recovery.failed) == ((1, 0) if loss < 3 else (0, 1))
        assert list(recovery.lost) == [victim_id]
        assert (await finish_one(victim, task, completed())).verdict is Verdict.SUPERSEDED
    assert (await backend.run(run_id))[0] == "failed"


async def test_a_worker_that_died_before_its_handlers_began_is_no_loss(backend: Backend) -> None:
    await backend.add(one_step)
    alive, victim_id = await backend.source(one_step), uuid4()
    await backend.start("one_step")
    assert (await (await backend.source(one_step, victim_id)).claim(1, ())).tasks
    assert (await alive.recover([await backend.peer(victim_id)])).released == 1
    (task,) = await claim_all(alive)
    assert (task.losses, task.attempt) == (0, 1)


async def test_a_worker_marked_lost_claims_nothing(backend: Backend) -> None:
    await backend.add(one_step)
    alive, victim_id = await backend.source(one_step), uuid4()
    victim = await backend.source(one_step, victim_id)
    await backend.start("one_step")
    await alive.recover([await backend.peer(victim_id)])
    claim = await victim.claim(1, ())
    assert (claim.fenced, list(claim.tasks)) == (True, [])
    assert len(await claim_all(alive)) == 1


async def test_a_task_that_is_started_but_not_held_is_given_back_by_a_recovery_pass(backend: Backend) -> None:
    await backend.add(one_step)
    source = await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(source)
    assert (await source.recover([], lambda: [task.msg_id])).released == 0
    assert (await source.recover([], tuple)).released == 1
    (again,) = await claim_all(source)
    assert (again.msg_id, again.attempt) == (task.msg_id, 1)


async def test_losses_are_forgotten_after_progress(backend: Backend) -> None:
    await backend.add(one_step)
    alive, victim_id = await backend.source(one_step), uuid4()
    await backend.start("one_step")
    await claim_all(await backend.source(one_step, victim_id))
    await alive.recover([await backend.peer(victim_id)])
    (task,) = await claim_all(alive)
    assert task.losses == 1
    await alive.forgive([task])
    assert (await finish_one(alive, task, RELEASED)).verdict is Verdict.RELEASED
    (again,) = await claim_all(alive)
    assert again.losses == 0


async def test_a_worker_that_beats_again_is_not_lost(backend: Backend) -> None:
    await backend.add(one_step)
    slow_id = uuid4()
    slow, alive = await backend.source(one_step, slow_id), await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(slow)
    seen = await backend.peer(slow_id)
    await backend.beat(slow_id, one_step)
    assert (await alive.recover([seen])).released == 0
    assert (await finish_one(slow, task, completed())).verdict is Verdict.COMPLETED


async def test_what_is_held_is_prolonged_before_its_visibility_ends(backend: Backend) -> None:
    await backend.add(one_step)
    made, other = await backend.source(one_step), await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(made)
    await backend.pass_time("one_step", 39)
    assert await backend.prolong(made, [task]) == set()
    await backend.pass_time("one_step", 10)
    assert (await other.claim(1, ())).read == 0


async def test_an_unknown_run_has_no_input(backend: Backend) -> None:
    await backend.add(one_step)
    made = await backend.source(one_step)
    with pytest.raises(UnknownRunError):
        await made.flow_input(uuid4())
