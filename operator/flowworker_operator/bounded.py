"""Two small bounds: on how much is remembered, and on how often something may happen."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that keeps what was set or asked for last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """The value, which is now the youngest."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def set(self, key: K, value: V) -> None:
        """Keep a value, and let go of the eldest if there are too many."""
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._size:
            self._items.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget a key, if it is there."""
        self._items.pop(key, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """So many at once, and after that so many per second."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What is left of an allowance at a tick."""

    left: float
    at: float


def spent(purse: Purse | None, allowance: Allowance, now: float) -> Purse | None:
    """What is left of an allowance after spending one, or None if there was nothing left to spend."""
    left = allowance.burst
    if purse is not None:
        left = min(allowance.burst, purse.left + (now - purse.at) * allowance.per_second)
    return Purse(left=left - 1, at=now) if left >= 1 else None
