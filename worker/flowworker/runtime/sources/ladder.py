"""What is written instead of an outcome that the database does not take: one rung down, and in the end nothing.

The last rung but nothing is to put the task off: its handler has run, and would run again at once.
"""

from dataclasses import replace
from typing import assert_never

from flowworker.database.records import Completed, Failed, FailureKind, Outcome, Released

NO_WORDS = "the attempt failed, and the database took no text about it"


NO_OUTCOME = "the database took no outcome of the attempt, so it runs again later"

UNWRITABLE_WAIT = 60.0
"""Seconds until it does."""


def refused(words: str) -> str:
    """How the database's words about a result are given to people."""
    return f"the database refused it: {words}"


def one_rung_down(outcome: Outcome, words: str) -> Outcome | None:
    """The next best outcome to write, or None where there is none.

    An output becomes a failed attempt. A failed attempt is written in ASCII, which every encoding of a database
    holds; then it becomes a final failure; then its message is replaced by a fixed one; then the task goes back, for
    later.

    Args:
        outcome: what the database did not take.
        words: what the database said.
    """
    match outcome:
        case Completed(duration=duration):
            message = f"the database refused the output: {words}"
            return Failed(kind=FailureKind.OUTPUT, message=message, stacktrace=None, duration=duration)
        case Failed() if not _is_ascii(outcome):
            trace = None if outcome.stacktrace is None else _ascii(outcome.stacktrace)
            return replace(outcome, message=_ascii(outcome.message), stacktrace=trace)
        case Failed(final=False):
            message = f"{outcome.message}\n(final, because the database refused another attempt: {_ascii(words)})"
            return replace(outcome, message=message, stacktrace=None, retry_after=None, final=True)
        case Failed() if outcome.message != NO_WORDS:
            return replace(outcome, message=NO_WORDS, stacktrace=None)
        case Failed():
            return Released(reason=f"{NO_OUTCOME}: {_ascii(words)}", wait=UNWRITABLE_WAIT)
        case Released():
            return None
        case _:
            assert_never(outcome)


def _is_ascii(outcome: Failed) -> bool:
    return outcome.message.isascii() and (outcome.stacktrace is None or outcome.stacktrace.isascii())


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
