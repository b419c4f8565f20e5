"""Two connections, each of which stands in for the other while that is down.

A heartbeat that does not get through has a living worker declared dead, a lease that is not extended lets a job run
twice. Neither may hang on one connection while another one works.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from flowworker.database.connection import Connection, describe
from flowworker.database.link import Link
from flowworker.database.statements import load
from flowworker.errors import DatabaseUnavailableError, FlowWorkerError

logger = logging.getLogger(__name__)

T = TypeVar("T")

PROBE_INTERVAL = 1.0
"""Seconds between two tries to bring a connection back."""


class ConnectionPair:
    """Work for one link that is done on the other one while the first is down."""

    def __init__(self, *, lends: bool) -> None:
        """Know of no trouble.

        Args:
            lends: whether one may stand in for the other. Not where a statement may wait for a lock without end: it
                would take the other connection along.
        """
        self._lends = lends
        self._probes: dict[Link, asyncio.Task[None]] = {}

    async def run(
        self,
        link: Link,
        spare: Link,
        work: Callable[[Connection], Awaitable[T]],
        *,
        repeated_after: tuple[type[Exception], ...] = (),
    ) -> T:
        """Do a piece of work that may be repeated.

        Args:
            link: for the work.
            spare: stands in.
            work: gets the connection.
            repeated_after: what leaves the first connection in order, and has the work repeated on the spare at once.

        Raises:
            DatabaseUnavailableError: neither works.
        """
        if not self._lends:
            return await link.run(work)
        if link not in self._probes:
            try:
                return await link.run(work)
            except DatabaseUnavailableError:
                self._probes[link] = asyncio.create_task(self._probe(link), name="probe of a connection")
            except repeated_after as error:
                logger.debug("a statement is repeated on the other connection: %s", describe(error))
        return await spare.run(work)

    async def close(self) -> None:
        """Bring nothing back any more."""
        probes = tuple(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        self._probes.clear()

    async def _probe(self, link: Link) -> None:
        """Try until the link works again; no caller waits for it meanwhile."""
        try:
            while not await _works(link):  # noqa: ASYNC110 - the link must be polled
                await asyncio.sleep(PROBE_INTERVAL)
        finally:
            self._probes.pop(link, None)


async def _works(link: Link) -> bool:
    try:
        await link.run(_ping)
    except FlowWorkerError:  # a refused password, too, may be replaced
        return False
    return True


async def _ping(connection: Connection) -> None:
    await connection.execute(load("workers/ping"))
