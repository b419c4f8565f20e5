"""The status of a resource whose spec cannot be understood."""

from datetime import timedelta

from tests.unit.operator.samples import NOW, planned, pod, revision, stored

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.status import LONGEST_MESSAGE, FlowWorkerStatus
from flowworker_operator.domain.reporting import rejected
from flowworker_operator.domain.snapshot import Fault

FAULT = Fault(reason=Reason.INVALID_SPEC, message="spec.handler: no")


def test_a_first_status_is_not_ready_not_progressing_and_stalled() -> None:
    status = rejected(FlowWorkerStatus(), FAULT, generation=3, at=NOW)
    found = {one.type: (one.status, one.reason, one.message) for one in status.conditions}
    expected = ("InvalidSpec", "spec.handler: no")
    assert found == {
        "Ready": ("False", *expected),
        "Progressing": ("False", *expected),
        "Stalled": ("True", *expected),
    }
    assert status.observed_generation == 3


def test_numbers_and_other_conditions_stay_and_times_are_those_of_the_change() -> None:
    before = stored(planned(revision(pod("a"))).status)
    first = rejected(before, FAULT, generation=2, at=NOW + timedelta(minutes=1))
    again = rejected(stored(first), FAULT, generation=2, at=NOW + timedelta(minutes=2))
    assert (first.replicas, first.scaling, first.workers) == (before.replicas, before.scaling, before.workers)
    assert {one.type for one in first.conditions} == {one.type for one in before.conditions} | {"Stalled"}
    assert again == stored(first)


def test_a_message_fits_into_the_status() -> None:
    long = Fault(reason=Reason.INVALID_SPEC, message="x" * 5000)
    status = rejected(FlowWorkerStatus(), long, generation=1, at=NOW)
    assert {len(one.message) for one in status.conditions} == {LONGEST_MESSAGE}
