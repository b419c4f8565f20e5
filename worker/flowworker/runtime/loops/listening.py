"""Whether announcements of inserts can be trusted, and what to do where they cannot.

Asked for notifications, a worker whose queue cannot announce polls instead and says why, with the command that helps.
Whether a LISTEN behind a pooler is worth anything only a trial shows: a note sent on the claim connection must arrive
on the heartbeat's.
"""

import asyncio
import logging

from flowworker.database.connection import Connection, describe
from flowworker.database.identifiers import insert_channel
from flowworker.database.link import Links
from flowworker.database.notify_setup import NotifyState, ensure_notify, notify_state
from flowworker.database.records import SourceKind
from flowworker.database.statements import load
from flowworker.runtime.loops.wakeup import Wakeup
from flowworker.runtime.source import Source
from flowworker.worker_options import Strategy

logger = logging.getLogger(__name__)

TRIAL_TIMEOUT = 2.0
"""Seconds for the trial's note to arrive."""

RECHECK_INTERVAL = 60.0
"""Seconds between checks while announcements are missing: a user may run the command."""


def channel_of(source: Source, strategy: Strategy) -> str | None:
    """Where a source's inserts are announced; None when the worker does not listen."""
    if strategy is Strategy.POLLING and source.kind is SourceKind.FLOW:
        return None
    return insert_channel(source.queue_name)


class Listening:
    """Checks after each (re)connection whether announcements arrive, and again while they do not."""

    def __init__(
        self, source: Source, wakeup: Wakeup, links: Links, *, wanted: Strategy, trial_channel: str | None, name: str
    ) -> None:
        """Watch over one session.

        Args:
            source: whose inserts are announced.
            wakeup: is set to rely on notifications or to poll.
            links: the claim connection asks, and sends the trial's note.
            wanted: what the user asked for; a queue listens anyway, but then does not report that it cannot.
            trial_channel: where the trial's note is sent; None means not to listen at all.
            name: the worker's, for the log.
        """
        self._source = source
        self._wakeup = wakeup
        self._links = links
        self._wanted = wanted
        self._trial_channel = trial_channel
        self._worker_name = name
        self._heard = asyncio.Event()
        self._reported: str | None = None

    def heard(self) -> None:
        """The trial's note arrived."""
        self._heard.set()

    async def check(self) -> None:
        """Set what the wake-up relies on, again and again until announcements arrive."""
        while self._trial_channel is not None:
            try:
                degraded = await self._obstacle(self._trial_channel)
            except Exception as error:  # noqa: BLE001 - a lock, say: polling does without, and what runs goes on
                degraded = f"could not find out whether inserts are announced: {describe(error)}"
            self._apply(degraded)
            if degraded is None:
                return
            await asyncio.sleep(RECHECK_INTERVAL)

    async def _obstacle(self, channel: str) -> str | None:
        """Why announcements do not arrive; None when they do."""
        state = await self._links.aside.run(self._state)
        if not state.ready:
            return state.message if state.command is None else f"{state.message}: {state.command}"
        self._heard.clear()
        await self._links.aside.run(lambda connection: _send_note(connection, channel))
        try:
            async with asyncio.timeout(TRIAL_TIMEOUT):
                await self._heard.wait()
        except TimeoutError:
            return (
                "notifications do not arrive, as behind a pooler in transaction mode: give the pulse a direct "
                "connection (FLOWWORKER_DIRECT_DATABASE_URL, --direct-database-url or direct_dsn=…)"
            )
        return None

    async def _state(self, connection: Connection) -> NotifyState:
        if self._wanted is Strategy.NOTIFY:  # asked for: add or repair what the role may
            return await ensure_notify(connection, self._source.queue_name)
        return await notify_state(connection, self._source.queue_name)

    def _apply(self, degraded: str | None) -> None:
        if self._wanted is not Strategy.NOTIFY:
            degraded_shown = None
        else:
            degraded_shown = degraded
            if degraded is not None and degraded != self._reported:
                logger.warning("%s polls instead of listening: %s", self._worker_name, degraded)
            elif degraded is None and self._reported is not None:
                logger.info("%s listens now", self._worker_name)
        self._reported = degraded
        self._wakeup.listen_state(listening=degraded is None, degraded=degraded_shown)


async def _send_note(connection: Connection, channel: str) -> None:
    await connection.execute(load("notify/trial"), channel)
