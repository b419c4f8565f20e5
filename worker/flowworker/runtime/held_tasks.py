"""What a worker holds: the tasks it owns in the database, and the slots that its handlers occupy.

The two are not the same. A task whose handler has returned is owned until its result is written but occupies no
slot; a thread that outlived its deadline occupies a slot long after the database has heard of the timeout.

The worker's event loop writes this and the heartbeat's thread reads it, so every access is behind one lock that is
never held for long.
"""

import asyncio
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowworker.database.records import ClaimedTask
from flowworker.runtime.cancellation import CancelSignal

ASIDE_FACTOR = 4
"""How many times more results may wait aside than in line before no more tasks are taken: they cost memory."""


@dataclass(slots=True, kw_only=True, eq=False)
class HeldTask:
    """One claim of one task. A later claim of the same message is another one."""

    task: ClaimedTask
    claimed_at: float
    """Monotonic seconds."""
    cancelled: CancelSignal = field(default_factory=CancelSignal)
    owned: bool = True
    """The database counts it as ours: no result of it has been written, and its fence is not known to be lost."""
    occupying: bool = True
    """Its handler takes a slot."""
    aside: bool = False
    """Its result cannot be written with the others, and waits by itself."""
    lingering: bool = False
    """Its handler is past its end (deadline, shutdown, lost lease) and still runs."""
    deadline: float | None = None
    """Monotonic seconds at which the attempt times out; None before the handler starts."""
    handle: Any = None
    """What runs the handler: an asyncio task, a thread or a child process."""


class HeldTasks:
    """All held tasks of one worker."""

    def __init__(self, slots: int, *, unwritten_limit: int | None = None) -> None:
        """Take the number of handlers that may run at once.

        Args:
            slots: handlers at once.
            unwritten_limit: results waiting for the database at which no more tasks are taken; default twice the slots.
        """
        self.slots = slots
        self._unwritten_limit = unwritten_limit if unwritten_limit is not None else 2 * slots
        self._lock = threading.Lock()
        self._all: dict[int, HeldTask] = {}
        self._occupied = 0
        self._owned = 0
        self._lingering = 0
        self._aside = 0
        self._expected = 0
        self.freed = asyncio.Event()
        """There may be more room than before. What waits for room clears it, and then looks."""

    @property
    def occupied(self) -> int:
        """Slots taken."""
        return self._occupied

    @property
    def lingering(self) -> int:
        """Slots taken by handlers that are past their end."""
        return self._lingering

    @property
    def in_flight(self) -> int:
        """Tasks owned."""
        return self._owned

    @property
    def unsettled(self) -> int:
        """Tasks owned, and those that a claim on its way may bring: only at 0 is a draining worker drained."""
        return self._owned + self._expected

    @property
    def active(self) -> int:
        """Handlers at work, those past their end not counted."""
        return self._occupied - self._lingering

    @property
    def free(self) -> int:
        """How many tasks may be claimed now."""
        unwritten = self._owned - self.active - self._aside
        roomy = unwritten < self._unwritten_limit and self._aside < ASIDE_FACTOR * self._unwritten_limit
        return max(0, self.slots - self._occupied) if roomy else 0

    @property
    def exhausted(self) -> bool:
        """Every slot is taken by a handler that is past its end."""
        return self._lingering >= self.slots

    def expect(self, tasks: int) -> None:
        """A claim of at most so many tasks is on its way; 0 when it was answered and its tasks are held."""
        self._expected = tasks

    def add(self, task: ClaimedTask, now: float) -> HeldTask:
        """Hold a task that was just claimed."""
        held_task = HeldTask(task=task, claimed_at=now)
        with self._lock:
            self._all[id(held_task)] = held_task
            self._occupied += 1
            self._owned += 1
        return held_task

    def vacate(self, held_task: HeldTask) -> None:
        """The handler has ended: its slot is free."""
        with self._lock:
            if held_task.occupying:
                held_task.occupying = False
                self._occupied -= 1
                self._lingering -= held_task.lingering
                self._forget(held_task)
        self.freed.set()

    def linger(self, held_task: HeldTask) -> None:
        """The attempt is over and its handler runs on: the slot stays taken."""
        with self._lock:
            if held_task.occupying and not held_task.lingering:
                held_task.lingering = True
                self._lingering += 1

    def set_aside(self, held_task: HeldTask, aside: bool) -> None:
        """Its result is in trouble of its own, or is not any more: others need not wait for it."""
        with self._lock:
            if held_task.owned and held_task.aside is not aside:
                held_task.aside = aside
                self._aside += 1 if aside else -1
        self.freed.set()

    def disown(self, held_task: HeldTask) -> None:
        """The task is no longer ours: its result is written, or its fence is lost."""
        with self._lock:
            if held_task.owned:
                held_task.owned = False
                self._owned -= 1
                self._aside -= held_task.aside
                self._forget(held_task)
        self.freed.set()

    def all(self) -> Sequence[HeldTask]:
        """Everything held, oldest first."""
        with self._lock:
            return tuple(self._all.values())

    def owned(self) -> Sequence[HeldTask]:
        """Held tasks that are ours in the database; of several for one message, the newest."""
        return tuple({held_task.task.msg_id: held_task for held_task in self.all() if held_task.owned}.values())

    def message_ids(self) -> frozenset[int]:
        """Messages that are ours in the database."""
        return frozenset(held_task.task.msg_id for held_task in self.all() if held_task.owned)

    def of_messages(self, message_ids: Collection[int]) -> Sequence[HeldTask]:
        """The owned tasks of these messages."""
        return tuple(held_task for held_task in self.owned() if held_task.task.msg_id in message_ids)

    def of_run(self, run_id: UUID) -> Sequence[HeldTask]:
        """The owned tasks of a run."""
        return tuple(held_task for held_task in self.owned() if held_task.task.run_id == run_id)

    def _forget(self, held_task: HeldTask) -> None:
        if not held_task.owned and not held_task.occupying:
            self._all.pop(id(held_task), None)
