"""From what a handler raised to the failure that the database stores. Pure."""

import asyncio
import math
from numbers import Real
from types import TracebackType

from flowworker.database.flow_results import LONGEST_DELAY
from flowworker.database.records import Failed, FailureKind
from flowworker.definition.child import ChildError
from flowworker.definition.codec import InputError, OutputError
from flowworker.definition.outcomes import Fail, Retry, wish_in
from flowworker.definition.quoting import text_of, traceback_of
from flowworker.redaction import redact

MESSAGE_LIMIT = 8_192
"""Most characters of an error message that are stored."""

STACKTRACE_LIMIT = 32_768
"""Most characters of a stack trace that are stored; the end, nearest to the fault, is kept."""


def describe_failure(error: BaseException, *, duration: float) -> Failed:
    """What an exception that ended an attempt means. Never raises: exceptions are objects of the user's classes."""
    try:
        return _describe(error, duration=duration)
    except BaseException as broken:  # noqa: BLE001 - an attempt without an outcome would never end
        message = f"an exception that cannot be described: looking at it raised {type(broken).__name__}"
        return Failed(kind=FailureKind.EXCEPTION, message=message, stacktrace=_stacktrace(broken), duration=duration)


def _describe(error: BaseException, *, duration: float) -> Failed:
    error = wish_in(error)
    after, complaint = _delay(error) if isinstance(error, Retry) else (None, "")
    return Failed(
        kind=_kind(error),
        message=clean(_message(error) + complaint, MESSAGE_LIMIT),
        stacktrace=_stacktrace(error),
        duration=duration,
        retry_after=after,
        final=isinstance(error, Fail),
    )


def _delay(error: Retry) -> tuple[float | None, str]:
    """The delay that a Retry asks for, or None and a complaint: a subclass may leave it out, or out of shape."""
    after: object = getattr(error, "after", None)
    if (seconds := _seconds(after)) is not None:
        return seconds, ""
    given = "gives no `after`" if after is None else f"gives after={after!r}, which is no number of seconds from 0 up"
    return None, f"\n({type(error).__name__} is a Retry and {given}: the next attempt follows the usual backoff)"


def _seconds(after: object) -> float | None:
    if not isinstance(after, Real):
        return None
    try:
        seconds = float(after)
    except OverflowError:
        return float(LONGEST_DELAY)
    return min(seconds, float(LONGEST_DELAY)) if 0 <= seconds < math.inf else None


def timed_out(timeout: float, *, duration: float, where: str | None = None) -> Failed:
    """An attempt that was still running at its deadline."""
    message = f"Task timed out after {timeout:g}s"
    return Failed(kind=FailureKind.TIMEOUT, message=message, stacktrace=where, duration=duration)


def clean(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Text that may be stored: without secrets, U+0000 and lone surrogates, at most `limit` characters."""
    shown = redact(text, limit=limit, keep_end=keep_end)
    return shown.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _kind(error: BaseException) -> FailureKind:
    match error:
        case InputError():
            return FailureKind.INPUT
        case OutputError():
            return FailureKind.OUTPUT
        case SystemExit() | KeyboardInterrupt():
            return FailureKind.EXIT
        case _:
            return FailureKind.EXCEPTION


def _message(error: BaseException) -> str:
    text = _text(error)
    match error:
        case InputError() | OutputError() | Retry() | Fail() | ChildError():
            return clean(text, MESSAGE_LIMIT)
        case SystemExit():
            return clean(f"the handler tried to end the process: SystemExit({text})", MESSAGE_LIMIT)
        case KeyboardInterrupt():
            return "the handler raised KeyboardInterrupt"
        case asyncio.CancelledError():
            return clean(f"the handler's work was cancelled from within: CancelledError({text})", MESSAGE_LIMIT)
        case _:
            return clean(f"{type(error).__name__}: {text}" if text else type(error).__name__, MESSAGE_LIMIT)


def _text(error: BaseException) -> str:
    try:
        return text_of(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its text cannot be shown: {type(broken).__name__}>"


def _stacktrace(error: BaseException) -> str | None:
    if isinstance(error, ChildError):
        return clean(error.stacktrace, STACKTRACE_LIMIT, keep_end=True)
    if isinstance(error, InputError | OutputError | Fail | Retry) and error.__cause__ is None:
        return None
    try:
        text = traceback_of(error, _users_part(error.__traceback__))
    except BaseException:  # noqa: BLE001 - see _text
        return None
    return clean(text, STACKTRACE_LIMIT, keep_end=True)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Skip our own frames at the top: the user's code begins where they end."""
    at = trace
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith("flowworker."):
        at = at.tb_next
    return at if at is not None else trace
