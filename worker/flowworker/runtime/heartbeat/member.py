"""A session as a member of the heartbeat: carries what the thread learns over to the worker's event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol
from uuid import UUID

from flowworker.database.heartbeat import Report
from flowworker.runtime.heartbeat.loop_watch import Blockage
from flowworker.runtime.heartbeat.thread import BeatResult
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.listening import Listening
from flowworker.runtime.loops.session import WorkerSession
from flowworker.runtime.source import Source


class BeatSink(Protocol):
    """The worker, as the member of its session sees it."""

    def report_of(self, session: WorkerSession) -> Report:
        """What to report; called in the heartbeat's thread."""
        ...

    def beaten(self, result: BeatResult) -> None:
        """What a heartbeat brought; called on the worker's loop."""
        ...

    def blocked(self, blockage: Blockage) -> None:
        """The worker's loop does not run; called in the heartbeat's thread."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background of the worker."""
        ...


class SessionMember:
    """A session, as the heartbeat sees it. Its methods are called in the heartbeat's thread."""

    def __init__(self, worker: BeatSink, session: WorkerSession, listening: Listening, *, channel: str | None) -> None:
        """Belong to the running event loop.

        Args:
            worker: takes what the heartbeat brings.
            session: what beats.
            listening: checks whether announcements arrive.
            channel: where inserts are announced; None to not listen.
        """
        self._worker = worker
        self._session = session
        self._listening = listening
        self._channel = channel
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
        return self._worker.report_of(self._session)

    def owned(self) -> Sequence[HeldTask]:
        return self._session.held_tasks.owned()

    def on_beat(self, result: BeatResult) -> None:
        self.post(self._worker.beaten, result)

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None:
        reason = "the task is no longer ours: its run has ended, or it was given to another worker"
        for held_task in held_tasks:  # at once, for handlers in threads; the loop may be blocked
            held_task.cancelled.set(reason)
        self.post(self._session.lose, tuple(held_tasks), reason)

    def on_insert(self) -> None:
        self.post(self._session.wakeup.announced)

    def on_trial(self) -> None:
        self.post(self._listening.heard)

    def on_listening(self) -> None:
        self.post(self._check_listening)

    def on_blocked(self, blockage: Blockage) -> None:
        self._worker.blocked(blockage)

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call something on the worker's loop, soon."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: the program ends without having stopped its worker
            return

    def _check_listening(self) -> None:
        self._worker.spawn(self._listening.check(), f"listening check of {self._session.info.worker_name}")
