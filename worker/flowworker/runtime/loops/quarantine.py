"""Results that could not be written with the others: in which order they are tried, how patiently, and how often.

Results that need the same lock wait as one group: nothing of a locked run is worth a try before the run is free. A
result that failed alone, for a reason of its own, is a group of its own. Nothing here touches a clock or the database.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from flowworker.database.link import Limits
from flowworker.database.records import TaskResult
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.source import LockGroup, Trouble, lock_group, weight

MOST_TRIES = 8
"""Tries of one outcome alone before a lesser one is written. Waiting for a lock is none: a lock ends with its holder,
and a lesser outcome would need it, too."""

MOST_FORBIDDEN_TRIES = 66
"""The same where the role lacks a right: with the longest pause between them, about an hour."""

SHORTEST_STATEMENT = 4.0
"""Seconds that the first try alone may take; each further one twice as long."""

LONGEST_STATEMENT = 300.0

LONGEST_LOCK = 5.0
"""Seconds; a wait for a lock starts with one, because it keeps all others in trouble waiting."""

LONGEST_LOCK_PAUSE = 5.0
"""Seconds between two waits for the same lock, at most: what is free again is written soon."""

LONGEST_PAUSE = 60.0
"""The same after other troubles."""

MOST_BYTES = 4 * 1024 * 1024
"""Of one try; a larger result goes alone."""


@dataclass(slots=True, kw_only=True, eq=False)
class Item:
    """A result on its way to the database."""

    held_task: HeldTask
    result: TaskResult
    arrived_at: float
    """Monotonic seconds."""
    tries: int = 0
    """How often this outcome failed alone, for a reason of its own."""

    lost: int = 0
    """How often the connection was lost while it was being written."""
    written_then: int = 0
    """Writes of others that had worked when that happened."""

    @property
    def group(self) -> LockGroup:
        """What a write of it locks."""
        return lock_group(self.result.task)


GroupKey: TypeAlias = LockGroup | Item
"""An item of its own stands for itself."""


@dataclass(slots=True, kw_only=True, eq=False)
class Group:
    """Results that wait for the same reason."""

    key: GroupKey
    items: deque[Item] = field(default_factory=deque[Item])
    waits: int = 0
    """Waits for a lock, in a row."""
    failures: int = 0
    """Other failed tries, in a row."""
    size: int = 100
    """Most results of the next try."""
    dissolves: bool = True
    """The first success frees the others: only a lock kept them here."""
    due: float = 0.0
    """Monotonic seconds before which it is not tried."""
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAttempt:
    """What is to be tried now."""

    group: Group
    items: Sequence[Item]
    limits: Limits
    waits_for_lock: bool
    """Only a lock has kept them here."""


class Quarantine:
    """All groups of one worker."""

    def __init__(self, randomness: Randomness) -> None:
        """Be empty.

        Args:
            randomness: jitter of the pauses.
        """
        self._randomness = randomness
        self._groups: dict[GroupKey, Group] = {}
        self._turn = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def holds(self, group: LockGroup) -> bool:
        """Whether results of this group have to wait here."""
        return group in self._groups

    def join(self, item: Item) -> None:
        """A new result of a group that is here already."""
        self._groups[item.group].items.append(item)

    def isolate(self, item: Item, *, due: float) -> None:
        """Let an item wait alone, until monotonic `due`: it is too large for company, or in trouble of its own."""
        group = self._groups.setdefault(item, Group(key=item, size=1, dissolves=False))
        group.items.append(item)
        group.failures = item.tries
        group.due = due

    def admit(self, items: Iterable[Item], trouble: Trouble, *, now: float) -> None:
        """Results that failed together with others of their group."""
        for item in items:
            group = self._groups.setdefault(item.group, Group(key=item.group, due=now))
            group.items.append(item)
            if trouble is not Trouble.LOCKED:
                group.size, group.dissolves = 1, False

    def take(self, now: float) -> WriteAttempt | None:
        """The next try: of the groups that are due, the one with the fewest failures, then the longest wait."""
        due = [group for group in self._groups.values() if group.due <= now]
        if not due:
            return None
        group = min(due, key=lambda one: (one.waits + one.failures, one.turn))
        self._turn += 1
        group.turn = self._turn
        items = take_batch(group.items, most=group.size, most_bytes=MOST_BYTES)
        return WriteAttempt(group=group, items=items, limits=limits_for(group, items), waits_for_lock=group.dissolves)

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None while nothing is here."""
        return max(0.0, min(group.due for group in self._groups.values()) - now) if self._groups else None

    def hurry(self) -> None:
        """Make everything due: the database is back."""
        for group in self._groups.values():
            group.due = 0.0

    def written(self, attempt: WriteAttempt, left: Sequence[Item]) -> list[Item]:
        """Something of the group was written, and `left` was not; returns what need not wait here any more."""
        group = attempt.group
        group.waits = group.failures = 0
        group.size = min(100, group.size * 2)
        group.items.extendleft(reversed(left))
        freed: list[Item] = []
        if group.dissolves and not left:
            freed, group.items = list(group.items), deque()
        self._forget_empty(group)
        return freed

    def locked(self, attempt: WriteAttempt, left: Sequence[Item], *, now: float) -> None:
        """The group's lock was not to be had."""
        group = attempt.group
        group.items.extendleft(reversed(left))
        group.waits += 1
        group.due = now + backoff(group.waits, self._randomness, cap=LONGEST_LOCK_PAUSE)

    def failed(self, attempt: WriteAttempt, left: Sequence[Item], *, now: float) -> None:
        """Several results failed together: the next try takes fewer."""
        group = attempt.group
        group.items.extendleft(reversed(left))
        group.failures += 1
        group.size, group.dissolves = max(1, len(attempt.items) // 2), False
        group.due = now + backoff(group.failures, self._randomness)

    def pause_of(self, item: Item) -> float:
        """Seconds until an item that failed alone is tried again."""
        return backoff(item.tries, self._randomness, base=1.0, cap=LONGEST_PAUSE)

    def settle(self, attempt: WriteAttempt) -> None:
        """End a try of which nothing is left here."""
        self._forget_empty(attempt.group)

    def clear(self) -> None:
        """Forget everything."""
        self._groups.clear()

    def _forget_empty(self, group: Group) -> None:
        if not group.items and self._groups.get(group.key) is group:
            del self._groups[group.key]


def most_tries(trouble: Trouble) -> int:
    """How often an outcome in this trouble is tried alone before a lesser one is written."""
    return MOST_FORBIDDEN_TRIES if trouble is Trouble.FORBIDDEN else MOST_TRIES


def limits_for(group: Group, items: Sequence[Item]) -> Limits:
    """How long a try may take: longer each time, because a huge result may just need it."""
    tries = min(8, max(item.tries for item in items))
    lock = min(LONGEST_LOCK, 1.0 * 2.0 ** min(group.waits, 8))
    return Limits(statement=min(LONGEST_STATEMENT, SHORTEST_STATEMENT * 2.0**tries) + lock, lock=lock)


def take_batch(waiting: deque[Item], *, most: int, most_bytes: int) -> list[Item]:
    """Take the oldest items that fit together, at least one."""
    batch: list[Item] = []
    room = most_bytes
    while waiting and len(batch) < most:
        room -= weight(waiting[0].result)
        if batch and room < 0:
            break
        batch.append(waiting.popleft())
    return batch
