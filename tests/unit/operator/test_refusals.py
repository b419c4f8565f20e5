"""When a refused write is tried again."""

import pytest

from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.refusals import Refusals, pause

TEMPLATE = Fault(reason=Reason.TEMPLATE_REFUSED, message="quantities must match")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tries_within(seconds: int, fault: Fault) -> int:
    """How often a write that is always refused is tried by an operator that looks every second."""
    clock = Clock()
    refusals, tries = Refusals(clock), 0
    for second in range(seconds):
        clock.now = float(second)
        if refusals.standing("write") is None:
            refusals.refused("write", fault)
            tries += 1
    return tries


def test_the_same_write_is_tried_ever_more_rarely() -> None:
    assert tries_within(60, TEMPLATE) == 4
    assert tries_within(3600, TEMPLATE) < 20


@pytest.mark.parametrize(
    ("reason", "seconds"), [(Reason.TEMPLATE_REFUSED, 300.0), (Reason.QUOTA, 60.0), (Reason.WEBHOOK_FAILED, 10.0)]
)
def test_what_passes_by_itself_is_tried_sooner(reason: Reason, seconds: float) -> None:
    assert [pause(1, reason), pause(100, reason)] == [5.0, seconds]


def test_another_write_is_not_held_up_and_a_success_is_forgotten() -> None:
    refusals = Refusals(Clock())
    refusals.refused("one", TEMPLATE)
    assert (refusals.standing("one"), refusals.standing("other")) == (TEMPLATE, None)
    refusals.taken("one")
    assert refusals.standing("one") is None
