"""When the database is asked more often."""

from datetime import UTC, datetime

import pytest

from flowworker_operator.domain.scaling import urgent
from flowworker_operator.domain.snapshot import DrainRequest, PodState, Report, WorkerState


def pod(state: WorkerState | None, *, ready: bool = True, drains: bool = False) -> PodState:
    report = None if state is None else Report(state=state, kind="flow", slug="mail", in_flight=0)
    drain = DrainRequest(age=1.0) if drains else None
    return PodState(
        name="p", uid="u", created_at=datetime(2026, 1, 1, tzinfo=UTC), ready=ready, report=report, drain=drain
    )


WORKING = pod(WorkerState.RUNNING)


def test_work_without_a_worker_is_urgent() -> None:
    assert urgent([])
    assert urgent([pod(WorkerState.RUNNING, ready=False)])


def test_workers_that_work_are_not() -> None:
    assert not urgent([WORKING, WORKING])
    assert not urgent([WORKING, pod(None, ready=False)])


@pytest.mark.parametrize("state", [None, WorkerState.STARTING])
def test_the_first_report_of_a_ready_worker_is_urgent(state: WorkerState | None) -> None:
    assert urgent([WORKING, pod(state)])


@pytest.mark.parametrize("state", [WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.STOPPING])
def test_the_end_of_a_drain_is_urgent(state: WorkerState) -> None:
    assert urgent([WORKING, pod(state, drains=True)])


@pytest.mark.parametrize("state", [WorkerState.DRAINED, WorkerState.STOPPED, WorkerState.LOST])
def test_a_drain_that_has_ended_is_not(state: WorkerState) -> None:
    assert not urgent([WORKING, pod(state, drains=True)])
