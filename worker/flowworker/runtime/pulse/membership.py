"""A worker's place in the pulse: carries what the pulse's thread learns over to the worker's event loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from flowworker.database.heartbeat import Report
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.session import WorkerSession
from flowworker.runtime.pulse.loop_watch import Blockage
from flowworker.runtime.pulse.pulse import News
from flowworker.runtime.source import Source


class Membership:
    """One session in the pulse. Methods are called in the pulse's thread; callbacks run on the worker's loop."""

    def __init__(
        self, session: WorkerSession, *, channel: str | None, report: Callable[[], Report],
        on_beat: Callable[[News], None],
        on_listening: Callable[[], None], on_trial: Callable[[], None], on_blocked: Callable[[Blockage], None],
    ) -> None:  # fmt: skip
        """Belong to the running event loop.

        Args:
            session: what beats.
            channel: where inserts are announced; None to not listen.
            report: what to report; called in the pulse's thread.
            on_beat: takes the news of each beat.
            on_listening: the channel is listened to on a new connection.
            on_trial: a note arrived on the trial channel.
            on_blocked: called in the pulse's thread, because the loop does not run.
        """
        self._session = session
        self._channel = channel
        self._report = report
        self._on_beat = on_beat
        self._on_listening = on_listening
        self._on_trial = on_trial
        self._on_blocked = on_blocked
        self._loop = asyncio.get_running_loop()

    @property
    def worker_id(self) -> UUID:
        return self._session.worker_id

    @property
    def source(self) -> Source:
        return self._session.source

    @property
    def channel(self) -> str | None:
        return self._channel

    def report(self) -> Report:
        return self._report()

    def owned(self) -> Sequence[HeldTask]:
        return self._session.held_tasks.owned()

    def on_beat(self, news: News) -> None:
        self.post(self._on_beat, news)

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None:
        reason = "the task is no longer ours: its run has ended, or it was given to another worker"
        for held_task in held_tasks:  # at once, for handlers in threads; the loop may be blocked
            held_task.cancelled.set(reason)
        self.post(self._session.lose, tuple(held_tasks), reason)

    def on_insert(self) -> None:
        self.post(self._session.wakeup.announced)

    def on_trial(self) -> None:
        self.post(self._on_trial)

    def on_listening(self) -> None:
        self.post(self._on_listening)

    def on_blocked(self, blockage: Blockage) -> None:
        self._on_blocked(blockage)

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call something on the worker's loop, soon."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: the program ends without having stopped its worker
            return
