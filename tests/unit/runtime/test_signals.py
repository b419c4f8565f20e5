"""What a stop signal excuses."""

import pytest

from flowworker.database.records import Completed, Failed, FailureKind, Outcome, Released
from flowworker.runtime.signals import AFTERMATH, uncharged


def failed(kind: FailureKind = FailureKind.EXCEPTION, *, final: bool = False) -> Failed:
    return Failed(kind=kind, message="broken pipe", stacktrace=None, duration=1.0, final=final)


@pytest.mark.parametrize("kind", [FailureKind.EXCEPTION, FailureKind.EXIT])
def test_a_failure_right_after_the_signal_is_given_back(kind: FailureKind) -> None:
    outcome = uncharged(failed(kind), signalled=10.0, now=10.0 + AFTERMATH / 2)
    assert outcome == Released(reason="it failed right after the signal to stop: broken pipe")


@pytest.mark.parametrize(
    "outcome",
    [
        Completed(output=b"1", duration=1.0),
        Released(reason="drained"),
        failed(FailureKind.TIMEOUT),
        failed(FailureKind.INPUT),
        failed(FailureKind.OUTPUT),
        failed(final=True),
    ],
)
def test_what_no_signal_causes_stays(outcome: Outcome) -> None:
    assert uncharged(outcome, signalled=10.0, now=10.1) is outcome


@pytest.mark.parametrize("signalled", [None, 10.0])
def test_without_a_signal_or_long_after_it_a_failure_is_a_failure(signalled: float | None) -> None:
    outcome = failed()
    assert uncharged(outcome, signalled=signalled, now=10.0 + AFTERMATH) is outcome
