"""The formula, with numbers."""

from itertools import pairwise

import pytest
from tests.unit.operator.samples import TICK, make_spec

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import ScalingMode
from flowworker_operator.domain.memory import seeded, trusted
from flowworker_operator.domain.scaling import TURNS, Decision, Situation, clamp, decide, needed
from flowworker_operator.domain.snapshot import DatabaseState, Demand


def wanted(demand: Demand | None, *, held: int = 0, idle_for: float = 0, age: float = 0, **scaling: object) -> Decision:
    spec = make_spec(scaling=scaling)
    memory = seeded(spec.scaling.mode, held, TICK - 1)
    if demand is not None and idle_for:
        memory = type(memory)(mode=memory.mode, held=held, tick=TICK - 1, idle_since=TICK - idle_for, peaks=())
    database = DatabaseState(demand=demand, age=None if demand is None else age)
    situation = Situation(running=held, shown=held, shown_mode=spec.scaling.mode)
    return decide(spec, database, situation, memory, replicas_set=False, tick=TICK).decision


@pytest.mark.parametrize(
    ("startable", "in_flight", "expected"),
    [(0, 0, 0), (1, 0, 1), (20, 0, 1), (21, 0, 2), (0, 1, 1), (0, 20, 2), (0, 21, 3), (10, 30, 3), (61, 38, 5)],
)
def test_workers_needed_at_twenty_tasks_each_and_ten_slots(startable: int, in_flight: int, expected: int) -> None:
    assert needed(make_spec(), Demand(startable=startable, in_flight=in_flight)) == expected


def test_the_message_has_the_numbers() -> None:
    decision = wanted(Demand(startable=61, in_flight=38))
    assert (decision.desired, decision.reason) == (5, Reason.BACKLOG)
    assert decision.message == "61 startable + 38 in flight at 20 per replica"


def test_more_than_the_limit_is_said() -> None:
    decision = wanted(Demand(startable=1000), maxReplicas=7)
    assert (decision.desired, decision.limited) == (7, "50 workers are wanted, maxReplicas is 7")


def test_orphaned_work_at_zero_gets_one_worker() -> None:
    assert wanted(Demand(in_flight=1)).desired == 1


def test_the_last_workers_stay_for_the_idle_time() -> None:
    waiting = wanted(Demand(), held=3, idle_for=59)
    assert (waiting.desired, waiting.reason) == (1, Reason.COOLING_DOWN)
    assert wanted(Demand(), held=3, idle_for=60).desired == 0


@pytest.mark.parametrize(("due_in", "expected"), [(60, 1), (61, 0)])
def test_work_that_is_due_soon_keeps_one(due_in: float, expected: int) -> None:
    assert wanted(Demand(delayed=1, due_in=due_in), held=1, idle_for=300).desired == expected


def test_zero_stays_zero_until_there_is_work() -> None:
    assert wanted(Demand(delayed=1, due_in=5)).desired == 0


def test_the_window_holds_what_was_needed() -> None:
    decision = wanted(Demand(startable=1), held=8)
    assert (decision.desired, decision.reason) == (8, Reason.WINDOW)
    assert decision.message.endswith("need 1; 8 were needed in the last 120 s")


@pytest.mark.parametrize(("age", "expected"), [(15, 5), (15.1, 2)])
def test_a_reading_that_is_too_old_decides_nothing(age: float, expected: int) -> None:
    assert wanted(Demand(startable=100), held=2, age=age).desired == expected


def test_nothing_is_known_before_the_first_reading() -> None:
    decision = wanted(None, held=2)
    assert (decision.desired, decision.reason) == (2, Reason.UNKNOWN)


def test_the_minimum_counts_also_without_a_reading() -> None:
    assert wanted(None, held=0, minReplicas=2).desired == 2


def test_a_memory_is_trusted_only_without_gaps() -> None:
    memory = seeded(make_spec().scaling.mode, 3, TICK)
    assert [trusted(memory, TICK + gap) for gap in (-1, 0, 30, 31)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("shown_mode", "mode", "expected"),
    [
        ("DryRun", "Auto", 2),
        ("DryRun", "External", 2),
        ("Auto", "DryRun", 2),
        ("DryRun", "DryRun", 9),
        ("Auto", "Auto", 9),
    ],
)
def test_after_a_restart_the_number_of_a_dry_run_counts_in_a_dry_run_only(
    shown_mode: str, mode: str, expected: int
) -> None:
    spec = make_spec(scaling={"mode": mode})
    situation = Situation(running=2, shown=9, shown_mode=ScalingMode(shown_mode))
    outcome = decide(spec, DatabaseState(), situation, None, replicas_set=False, tick=TICK)
    assert (outcome.decision.desired, outcome.before) == (expected, expected)


def test_a_demand_that_goes_up_and_down_all_the_time_is_followed_only_so_often() -> None:
    spec = make_spec(scaling={"scaleDownWindowSeconds": 0, "idleSecondsBeforeZero": 0, "maxReplicas": 50})
    memory, answers, messages = None, list[int](), list[str]()
    for second in range(600):
        demand = Demand(startable=1000 if second % 2 == 0 else 0)
        held = answers[-1] if answers else 0
        outcome = decide(
            spec,
            DatabaseState(demand=demand, age=0),
            Situation(running=held, shown=held, shown_mode=spec.scaling.mode),
            memory,
            replicas_set=False,
            tick=float(second),
        )
        memory = outcome.memory
        answers.append(outcome.decision.desired)
        messages.append(outcome.decision.message)
        assert outcome.decision.unsteady is (outcome.decision.desired > 0 and demand.startable == 0)
    falls = sum(now < before for before, now in pairwise(answers))
    assert TURNS.burst <= falls <= TURNS.burst + 600 * TURNS.per_second + 1
    assert "goes up and down" in "".join(messages)


def test_a_demand_that_rises_and_then_falls_is_followed_at_once() -> None:
    spec = make_spec(scaling={"scaleDownWindowSeconds": 0, "idleSecondsBeforeZero": 0, "maxReplicas": 50})
    memory, answers = None, list[int]()
    for second, startable in enumerate([*range(0, 1000, 20), *range(1000, 0, -20), 0]):
        held = answers[-1] if answers else 0
        outcome = decide(
            spec,
            DatabaseState(demand=Demand(startable=startable), age=0),
            Situation(running=held, shown=held, shown_mode=spec.scaling.mode),
            memory,
            replicas_set=False,
            tick=float(second),
        )
        memory = outcome.memory
        answers.append(outcome.decision.desired)
        assert answers[-1] == clamp(spec, needed(spec, Demand(startable=startable)))
