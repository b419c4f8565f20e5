"""SIGTERM, SIGINT and SIGHUP: the first asks for a graceful stop, the second for one at once."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from flowworker.database.records import Failed, FailureKind, Outcome, Released
from flowworker.stop_signals import STOP_SIGNALS, copies_begin_afresh

logger = logging.getLogger(__name__)

AFTERMATH = 2.0
"""Seconds after a stop signal in which a handler's failure counts as the signal's work."""


class Stoppable(Protocol):
    """A worker or a pool."""

    async def stop(self, *, immediately: bool = False) -> None: ...


@contextmanager
def stop_on_signals(target: Stoppable, on_hurry: Callable[[], None] = lambda: None) -> Generator[None]:
    """Within this block, signals stop a worker or pool. To be used on the main thread's event loop.

    SIGHUP and SIGINT stay ignored where they are: `nohup` and shells without job control do that on purpose. What
    handlers fork meanwhile has the signals that a program begins with.

    Args:
        target: what stops.
        on_hurry: called when a second signal asks for a stop at once.
    """
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[None]] = []

    def received(number: signal.Signals) -> None:
        immediately = bool(stops)
        if immediately:
            on_hurry()
        logger.info("%s: %s", number.name, "stopping at once" if immediately else "stopping, a second one hurries")
        stop = loop.create_task(target.stop(immediately=immediately), name=f"stop by {number.name}")
        stop.add_done_callback(_report)
        stops.append(stop)

    handled = [
        number for number in STOP_SIGNALS if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    ]
    for number in handled:
        loop.add_signal_handler(number, received, number)
        _note_at_once(number)
    _Blocks.open += 1
    try:
        yield
    finally:
        _Blocks.open -= 1
        for number in handled:
            loop.remove_signal_handler(number)


def _note_at_once(number: signal.Signals) -> None:
    """Note a signal before anything else on the loop: programs that it ended as well fail their handlers at once.

    The loop's own handler runs in turn, after what has become ready meanwhile.
    """
    installed = signal.getsignal(number)

    def note(received: int, frame: FrameType | None) -> None:
        _Blocks.signalled_at = time.monotonic()
        if callable(installed):
            installed(received, frame)

    signal.signal(number, note)
    signal.siginterrupt(number, False)


def signalled_at() -> float | None:
    """When this process last received a signal to stop, in monotonic seconds; None for never."""
    return _Blocks.signalled_at


def uncharged(outcome: Outcome, *, signalled: float | None, now: float) -> Outcome:
    """Give back an attempt that failed because of a stop, instead of charging it.

    A signal to a whole unit or terminal also ends the programs that handlers have started, and handlers fail with them.
    An attempt that fails by itself in that moment runs once more than it would have.

    Args:
        outcome: what became of the attempt.
        signalled: when the signal to stop came, in monotonic seconds; None for never.
        now: monotonic seconds.
    """
    match outcome:
        case Failed(kind=FailureKind.EXCEPTION | FailureKind.EXIT, final=False) if (
            signalled is not None and now - signalled < AFTERMATH
        ):
            return Released(reason=f"it failed right after the signal to stop: {outcome.message}")
        case _:
            return outcome


class _Blocks:
    """The state of the blocks above, of which a process has one at a time, or several after each other."""

    open = 0
    """Blocks whose handlers a forked copy must not inherit."""

    signalled_at: float | None = None


copies_begin_afresh(lambda: _Blocks.open > 0)


def _report(stop: "asyncio.Task[None]") -> None:
    if not stop.cancelled() and (error := stop.exception()) is not None:
        logger.error("%s failed", stop.get_name(), exc_info=error)
