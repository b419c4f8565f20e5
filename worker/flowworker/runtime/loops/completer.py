"""Writes outcomes. While one write is on its way the next ones gather.

So a lone result waits for nothing, and a flood is batched.
A result is kept until the database has written it or has proven it superseded, however often that takes.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from flowworker.database.records import Receipt, RunEnd, TaskResult
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.holdings import Holding
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Source

logger = logging.getLogger(__name__)

BATCH_LIMIT = 100
"""Most results per write: keeps the locks of one transaction short."""


class Completer(Service):
    """The loop that writes."""

    def __init__(
        self, *, source: Source, name: str, on_receipt: Callable[[Holding, Receipt], None],
        on_run_end: Callable[[RunEnd], None], on_error: Callable[[str], None], on_crash: Crash,
        randomness: Randomness = random.random,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            source: where results go.
            name: the worker's, for messages.
            on_receipt: takes the database's answer to each result.
            on_run_end: takes each run that a result ended.
            on_error: takes the text of each failed write.
            on_crash: told when the loop ends by an error.
            randomness: jitter of the backoff while the database is away.
        """
        super().__init__(f"completer of {name}", on_crash)
        self._source = source
        self._worker_name = name
        self._on_receipt = on_receipt
        self._on_run_end = on_run_end
        self._on_error = on_error
        self._randomness = randomness
        self._waiting: deque[tuple[Holding, TaskResult]] = deque()
        self._waiting_since: deque[float] = deque()
        self._arrived = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._hurry = asyncio.Event()
        self._failures = 0

    @property
    def unwritten(self) -> int:
        """Results that no write has settled yet."""
        return len(self._waiting)

    @property
    def oldest_unwritten(self) -> float | None:
        """Monotonic seconds since when the oldest result waits; None when none does. Safe in any thread."""
        try:
            return self._waiting_since[0]
        except IndexError:
            return None

    def submit(self, holding: Holding, result: TaskResult) -> None:
        """Take a result; it is written soon."""
        self._waiting.append((holding, result))
        self._waiting_since.append(time.monotonic())
        self._written.clear()
        self._arrived.set()

    def forget(self) -> Sequence[Holding]:
        """Drop what is unwritten: this worker was declared lost, and its results would all be refused."""
        dropped = [holding for holding, _ in self._waiting]
        self._waiting.clear()
        self._waiting_since.clear()
        self._written.set()
        return dropped

    def try_now(self) -> None:
        """End a pause before the next try: the database is back."""
        self._hurry.set()

    async def flush(self, timeout: float | None) -> bool:
        """Wait until everything is written; False when `timeout` seconds were not enough."""
        try:
            async with asyncio.timeout(timeout):
                await self._written.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._write([self._waiting[index] for index in range(min(len(self._waiting), BATCH_LIMIT))])
            self._written.set()

    async def _write(self, batch: Sequence[tuple[Holding, TaskResult]]) -> None:
        try:
            finish = await self._source.finish([result for _, result in batch])
        except Exception as error:  # noqa: BLE001 - whatever it was: nothing finished is ever dropped
            await self._wait(error, len(batch))
            return
        self._failures = 0
        for (holding, _), receipt in zip(batch, finish.receipts, strict=True):
            if self._waiting and self._waiting[0][0] is holding:  # unless forgotten meanwhile
                self._waiting.popleft()
                self._waiting_since.popleft()
                self._on_receipt(holding, receipt)
        for ended in finish.ended_runs:
            self._on_run_end(ended)

    async def _wait(self, error: Exception, count: int) -> None:
        self._failures += 1
        delay = backoff(self._failures, self._randomness)
        self._on_error(str(error))
        logger.log(
            logging.WARNING if self._failures == 1 else logging.DEBUG,
            "%s keeps %d results that could not be written, next try in %.1f s: %s",
            self._worker_name,
            count,
            delay,
            error,
            exc_info=None if isinstance(error, DatabaseUnavailableError) else error,
        )
        self._hurry.clear()
        try:
            async with asyncio.timeout(delay):
                await self._hurry.wait()
        except TimeoutError:
            return
