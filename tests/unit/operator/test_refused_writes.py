"""When a refused write is tried again."""

import pytest

from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.refused_writes import RefusedWrites, pause

TEMPLATE = Fault(reason=Reason.TEMPLATE_REFUSED, message="quantities must match")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tries_within(seconds: int, fault: Fault) -> int:
    """How often a write that is always refused is tried by an operator that looks every second."""
    clock = Clock()
    refused_writes, tries = RefusedWrites(clock), 0
    for second in range(seconds):
        clock.now = float(second)
        if refused_writes.standing("write") is None:
            refused_writes.refused("write", fault)
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
    refused_writes = RefusedWrites(Clock())
    refused_writes.refused("one", TEMPLATE)
    assert (refused_writes.standing("one"), refused_writes.standing("other")) == (TEMPLATE, None)
    refused_writes.taken("one")
    assert refused_writes.standing("one") is None
