"""From what a handler raised, or how its process ended, to the failure that is stored."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.database.flow_results import LONGEST_DELAY
from flowworker.database.records import FailureKind
from flowworker.definition.codec import InputError, OutputError
from flowworker.definition.outcomes import Fail, Retry
from flowworker.runtime.execution.children import in_words
from flowworker.runtime.execution.failures import MESSAGE_LIMIT, clean, describe_failure, timed_out


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("x"), FailureKind.EXCEPTION, "ValueError: x"),
        (ValueError(), FailureKind.EXCEPTION, "ValueError"),
        (InputError("field"), FailureKind.INPUT, "field"),
        (OutputError("place"), FailureKind.OUTPUT, "place"),
        (SystemExit(3), FailureKind.EXIT, "the handler tried to end the process: SystemExit(3)"),
        (KeyboardInterrupt(), FailureKind.EXIT, "the handler raised KeyboardInterrupt"),
        (UnprintableError(), FailureKind.EXCEPTION, "UnprintableError: <its text cannot be shown: RuntimeError>"),
        (ValueError("a\0b\ud800"), FailureKind.EXCEPTION, "ValueError: a\ufffdb?"),
    ],
)
def test_whatever_was_raised_becomes_a_failure_with_words(
    error: BaseException, kind: FailureKind, message: str
) -> None:
    failed = describe_failure(error, duration=1.5)
    assert (failed.kind, failed.message, failed.duration, failed.final) == (kind, message, 1.5, False)


def test_retry_and_fail_are_carried_over() -> None:
    assert describe_failure(Retry(after=3), duration=0).retry_after == 3
    assert describe_failure(Fail("enough"), duration=0).final


class BusyError(OSError, Retry):
    """OSError comes first, so Retry's own constructor never runs."""


class LateError(OSError, Retry):
    after = "30"


class NeverError(OSError, Retry):
    @property
    def after(self) -> float:  # type: ignore[override]
        raise RuntimeError("no such thing")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


def shapeless(kind: Callable[..., BaseException]) -> BaseException:
    """Made as its first base wants it."""
    return kind("down")


class NamelessError(Exception, metaclass=Nameless):
    pass


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (shapeless(BusyError), "gives no `after`"),
        (shapeless(LateError), "gives after='30', which is no number of seconds"),
        (shapeless(NeverError), "cannot be described: looking at it raised RuntimeError"),
        (NamelessError("x"), "cannot be described: looking at it raised RuntimeError"),
        (ExitingError(), "its text cannot be shown: SystemExit"),
    ],
    ids=["no after", "text", "property", "no name", "exit"],
)
def test_an_exception_out_of_shape_becomes_a_failure_that_says_so(error: BaseException, words: str) -> None:
    failed = describe_failure(error, duration=1.5)
    assert words in failed.message
    assert (failed.retry_after, failed.final) == (None, False)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), "30", None])
def test_a_retry_without_a_delay_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seconds"):
        Retry(after=after)


def test_a_delay_beyond_all_measure_is_cut() -> None:
    error = shapeless(BusyError)
    vars(error)["after"] = 10**400
    assert describe_failure(error, duration=0).retry_after == LONGEST_DELAY


def test_the_timeout_has_upstreams_words() -> None:
    assert timed_out(2.0, duration=2.1).message == "Task timed out after 2s"
    assert timed_out(0.5, duration=2.1).message == "Task timed out after 0.5s"


@given(st.text(), st.integers(min_value=2, max_value=50), st.booleans())
def test_cleaned_text_can_be_stored_and_is_short(text: str, limit: int, keep_end: bool) -> None:
    cleaned = clean(text, limit, keep_end=keep_end)
    assert len(cleaned) <= limit
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


def test_long_messages_are_cut() -> None:
    assert len(describe_failure(ValueError("x" * 100_000), duration=0).message) == MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "exited with code 3 before it answered"),
        (-9, "was killed by SIGKILL (signal 9), as the kernel does when memory runs out"),
        (-11, "was killed by SIGSEGV (signal 11)"),
        (-99, "was killed by an unknown signal (signal 99)"),
    ],
)
def test_the_end_of_a_process_in_words(code: int, words: str) -> None:
    assert in_words(code) == words
