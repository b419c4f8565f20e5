"""SIGTERM and SIGINT: the first asks for a graceful stop, the second for one at once."""

import asyncio
import logging
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stoppable(Protocol):
    """A worker or a pool."""

    async def stop(self, *, immediately: bool = False) -> None: ...


@contextmanager
def stop_on_signals(target: Stoppable) -> Generator[None]:
    """Within this block, signals stop a worker or pool. To be used on the main thread's event loop."""
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[None]] = []

    def received(number: signal.Signals) -> None:
        immediately = bool(stops)
        logger.info("%s: %s", number.name, "stopping at once" if immediately else "stopping, a second one hurries")
        stops.append(loop.create_task(target.stop(immediately=immediately), name=f"stop by {number.name}"))

    for number in SIGNALS:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
