"""SIGTERM, SIGINT and SIGHUP: the first asks for a graceful stop, the second for one at once."""

import asyncio
import logging
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from flowworker.first_process import STOP_SIGNALS, copies_begin_afresh

logger = logging.getLogger(__name__)


class Stoppable(Protocol):
    """A worker or a pool."""

    async def stop(self, *, immediately: bool = False) -> None: ...


@contextmanager
def stop_on_signals(target: Stoppable) -> Generator[None]:
    """Within this block, signals stop a worker or pool. To be used on the main thread's event loop.

    A signal that is ignored stays so: `nohup` and shells without job control ignore some on purpose. What handlers fork
    meanwhile has the signals that a program begins with.
    """
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[None]] = []

    def received(number: signal.Signals) -> None:
        immediately = bool(stops)
        logger.info("%s: %s", number.name, "stopping at once" if immediately else "stopping, a second one hurries")
        stops.append(loop.create_task(target.stop(immediately=immediately), name=f"stop by {number.name}"))

    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in handled:
        loop.add_signal_handler(number, received, number)
    _Blocks.open += 1
    try:
        yield
    finally:
        _Blocks.open -= 1
        for number in handled:
            loop.remove_signal_handler(number)


class _Blocks:
    """How many blocks hold handlers that a forked copy must not inherit."""

    open = 0


copies_begin_afresh(lambda: _Blocks.open > 0)
