"""Which of two installations serves a FlowWorker."""

from dataclasses import dataclass

import pytest

from flowworker_operator.api.status import Installation
from flowworker_operator.domain.rivalry import ANSWERED_WITHIN, ASKED_AGAIN_AFTER, Asked, Names, Stance, stance

ME = Installation(release="one/operator", version="2")
OLDER = Installation(release="one/operator", version="1")
OTHER = Installation(release="two/operator", version="3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    served: Installation | None
    challenged: Installation | None = None
    asked: float | None = None
    """Seconds ago."""
    changed: bool = False
    expected: Stance


@pytest.mark.parametrize(
    "case",
    [
        Case(served=None, expected=Stance.CLAIM),
        Case(served=ME, expected=Stance.SERVE),
        Case(served=OLDER, expected=Stance.CLAIM),
        Case(served=ME, challenged=OTHER, expected=Stance.ANSWER),
        Case(served=OTHER, expected=Stance.CHALLENGE),
        Case(served=OTHER, challenged=ME, asked=ANSWERED_WITHIN - 1, expected=Stance.STAND_BACK),
        Case(served=OTHER, challenged=ME, asked=ANSWERED_WITHIN, expected=Stance.CLAIM),
        Case(served=OTHER, asked=ANSWERED_WITHIN, expected=Stance.STAND_BACK),
        Case(served=OTHER, asked=ANSWERED_WITHIN - 1, changed=True, expected=Stance.STAND_BACK),
        Case(served=OTHER, asked=ANSWERED_WITHIN, changed=True, expected=Stance.CHALLENGE),
        Case(served=OTHER, asked=ASKED_AGAIN_AFTER, expected=Stance.CHALLENGE),
    ],
)
def test_what_is_done_follows_from_the_names_and_the_last_challenge(case: Case) -> None:
    asked = None if case.asked is None else Asked(at=1000.0 - case.asked, generation=1)
    names = Names(served_by=case.served, challenged_by=case.challenged)
    assert stance(names, ME, asked, generation=2 if case.changed else 1, tick=1000.0) is case.expected


def test_a_challenge_of_an_earlier_process_of_ours_is_made_anew_before_it_counts() -> None:
    names = Names(served_by=OTHER, challenged_by=ME)
    assert stance(names, ME, None, generation=1, tick=1000.0) is Stance.CHALLENGE
