"""Things that wait for a few slots, fairly among groups: whatever one group asks for, the others are served.

The group that holds the fewest slots is next, and among equals the one that was served longest ago. A group never gets
more than half of the slots that the others leave, so that a slot is free when another group comes: m groups that keep
all they get end with 1/(m+1) of the slots each, and as much is left.
"""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

G = TypeVar("G", bound=Hashable)
T = TypeVar("T")


class FairQueue(Generic[G, T]):
    """First in, first out within a group."""

    def __init__(self, slots: int) -> None:
        """Empty, with all slots free."""
        self._slots = slots
        self._waiting: dict[G, deque[T]] = {}
        """Groups in the order in which they were served last."""
        self._taken: Counter[G] = Counter()

    def put(self, group: G, item: T) -> None:
        """Let an item wait."""
        self._waiting.setdefault(group, deque()).append(item)

    def take(self) -> tuple[G, T] | None:
        """The next item and its group, which now holds one more slot; None when none may begin."""
        group = self._next_group() if self._taken.total() < self._slots else None
        if group is None or not self._may_take(group):
            return None
        items = self._waiting.pop(group)
        item = items.popleft()
        if items:
            self._waiting[group] = items
        self._taken[group] += 1
        return group, item

    def release(self, group: G) -> None:
        """Free one slot that the group holds."""
        self._taken[group] -= 1
        if not self._taken[group]:
            del self._taken[group]

    def _next_group(self) -> G | None:
        """Groups that hold slots are few, however many wait: a look at all of them, every time, is never needed."""
        for group in self._waiting:
            if group not in self._taken:
                return group
        return min(self._waiting, key=lambda one: self._taken[one], default=None)

    def _may_take(self, group: G) -> bool:
        """Of the groups that wait this one holds the fewest slots: if it may not, none may."""
        mine = self._taken[group]
        left_by_others = self._slots - (self._taken.total() - mine)
        return mine < max(1, left_by_others // 2)
