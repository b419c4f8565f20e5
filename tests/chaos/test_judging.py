"""What a cell of the matrix excuses, and that a stall, a flood of sessions or a worker that stays away is noticed."""

from dataclasses import replace

import pytest
from testkit.support.history import Execution, Key
from tests.chaos.cell_run import Result, judged
from tests.chaos.cells import ALL, Cell, Disturbance, Kind, Lane, sample
from tests.chaos.ground import SECOND
from tests.chaos.offers import Offered, promptness

CELL = Cell(lane=Lane.LISTEN, disturbance=Disturbance.CUT, kind=Kind.FLOW)

GOOD = Result(
    cell=CELL,
    units=100,
    repeats=0,
    deaths=0,
    prompt=1.0,
    neighbours=0.95,
    sessions={"disturbed": 5, "steady": 3},
    resumed=20.0,
    violations=(),
)


def test_a_good_cell_passes() -> None:
    assert judged(GOOD, []).violations == []


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, prompt=0.9),
        replace(GOOD, neighbours=0.9),
        replace(GOOD, sessions={"disturbed": 6}),
        replace(GOOD, resumed=21.0),
    ],
)
def test_each_figure_of_a_cell_is_judged(bad: Result) -> None:
    assert len(judged(bad, []).violations) == 1


def test_a_worker_that_cannot_claim_need_not_serve_what_it_serves_alone() -> None:
    cell = replace(CELL, lane=Lane.CLAIM)
    assert judged(replace(GOOD, cell=cell, neighbours=0.0), []).violations == []


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_holds_each_fault_of_each_connection_once(seed: int) -> None:
    chosen = sample(seed)
    assert len(chosen) == len(ALL) / 2
    assert {(cell.lane, cell.disturbance) for cell in chosen} == {(cell.lane, cell.disturbance) for cell in ALL}


def test_what_is_only_slow_excuses_nothing() -> None:
    narrow = [cell for cell in ALL if cell.disturbance in {Disturbance.LATENCY, Disturbance.BANDWIDTH}]
    assert {cell.excuse("disturbed", 0, 60 * SECOND) for cell in narrow} == {None}


def test_a_cut_heartbeat_excuses_repeats_by_death_alone() -> None:
    fault = replace(CELL, lane=Lane.BEAT).excuse("disturbed", 0, 60 * SECOND)
    assert fault is not None
    assert (fault.silences, fault.only_by_death, fault.workers) == (True, True, frozenset({"disturbed"}))


def test_a_lock_of_its_row_excuses_no_death() -> None:
    locked = replace(CELL, lane=Lane.BEAT, disturbance=Disturbance.LOCK)
    assert {replace(locked, kind=kind).excuse("disturbed", 0, 60 * SECOND) for kind in Kind} == {None}


def test_a_stall_that_is_made_up_for_later_is_noticed() -> None:
    offered = [Offered(owner=f"mail:{number}", at=number * SECOND) for number in range(60)]
    steady = [served(number, ended=number + 0.5) for number in range(60)]
    stalled = [served(number, ended=max(number, 45 if number > 25 else 0) + 0.5) for number in range(60)]
    windows = {"before": (0, 20 * SECOND), "during": (20 * SECOND, 60 * SECOND)}
    assert promptness(offered, steady, **windows) == 1.0
    assert promptness(offered, stalled, **windows) < 0.7


def served(number: int, *, ended: float) -> Execution:
    key = Key(owner="mail", step="mail", index=number)
    at = int(ended * SECOND)
    return Execution(id=str(number), key=key, attempt=1, worker="disturbed", began=at, ended=at)
