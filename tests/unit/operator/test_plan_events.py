"""What is sent as events, and what is not."""

from dataclasses import replace

import pytest
from tests.unit.operator.samples import NOW, later, planned, pod, revision, snapshot

from flowworker_operator.domain.events import lost
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.snapshot import Loss, WorkerState


def words(*losses: Loss, others: bool = True) -> list[str]:
    return [event.message for event in lost(losses, others=others)]


def loss(in_flight: int, state: WorkerState = WorkerState.RUNNING, pod: str = "a") -> Loss:
    return Loss(pod=pod, state=state, in_flight=in_flight)


@pytest.mark.parametrize("state", [WorkerState.DRAINING, WorkerState.DRAINED, WorkerState.STOPPING])
def test_a_worker_that_was_leaving_and_held_nothing_has_lost_nothing(state: WorkerState) -> None:
    assert words(loss(0, state)) == []
    assert words(loss(0, state), loss(1, state, "b")) == [
        "b: ended without reporting it; 1 task was held at the last report and goes to other workers"
    ]


def test_others_take_over_only_where_there_are_others() -> None:
    assert words(loss(2), loss(1, pod="b")) == [
        "a, b: ended without reporting it; 3 tasks were held at the last report and go to other workers"
    ]
    assert words(loss(2), others=False) == [
        "a: ended without reporting it; 2 tasks were held at the last report and go to the next worker"
    ]
    assert words(loss(0)) == ["a: ended without reporting it; no task was held at the last report"]


def test_a_first_apply_that_goes_well_brings_no_warning() -> None:
    first = snapshot()
    plan = make_plan(first)
    young = pod("a", ready=False, report=None, created_at=NOW)
    starting = replace(later(first, plan), revisions=(revision(young, proven=False),))
    ready = replace(starting, revisions=(revision(pod("a"), proven=False),))
    events = [event for moment in (first, starting, ready) for event in make_plan(moment).events]
    assert {event.type for event in events} == {"Normal"}
    assert "Proving" not in {event.reason for event in plan.events}


def test_a_new_revision_that_goes_well_brings_no_warning() -> None:
    settled = snapshot(revision(pod("a")))
    before = later(settled, make_plan(settled))
    changed = replace(before, target="bbbb", generation=2)
    events = make_plan(changed).events
    assert {event.type for event in events} == {"Normal"}
    assert [event.message for event in events if event.reason == "Proving"] == [
        "Progressing is True: waiting for the first pod of revision bbbb to report"
    ]
    assert planned(revision(pod("a"), proven=False)).status is not None
