"""On which connection results are written."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from flowworker.database.connection import Connection
from flowworker.database.link import Limits, Links
from flowworker.runtime.sources.writing import Batch, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLane:
    """For the results of one `Source.finish`, whose arguments these are.

    The claim of another flow may have the connection aside for two minutes. Results go before other claims that wait
    for it, and those that only a lock kept back do not wait at all: the connection of the finishes looks whether it
    is free, with SKIP LOCKED, which takes no longer than any other write.
    """

    links: Links
    patience: Limits | None
    waits_for_lock: bool

    async def write(self, batch: Batch, write: Callable[[Connection, Batch], Awaitable[Written]]) -> Written:
        """Try a batch once."""
        if self.patience is None:
            return await self.links.on_finish(lambda connection: write(connection, batch))
        if self.waits_for_lock and self.links.aside.busy:
            look = replace(batch, skip_locked=True)
            return await self.links.finish.run(lambda connection: write(connection, look))
        return await self.links.aside.run(
            lambda connection: write(connection, batch), limits=self.patience, urgent=True
        )
