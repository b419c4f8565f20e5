"""Small bounds: on how much is remembered, in all and by namespace, and on how often something may happen."""

from collections import OrderedDict
from collections.abc import Callable
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

    def items(self) -> list[tuple[K, V]]:
        """All of it, the eldest first."""
        return list(self._items.items())


class Shares(Generic[K, V]):
    """A mapping of which each namespace has a share: when it is full, the eldest of the one that has most gives way.

    So a namespace pushes out what others have only as long as they have more than it has itself.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0
        self._shares: OrderedDict[str, OrderedDict[K, V]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def get(self, namespace: str, key: K) -> V | None:
        """The value, which is now the youngest of its namespace."""
        share = self._shares.get(namespace)
        if share is None or key not in share:
            return None
        share.move_to_end(key)
        return share[key]

    def set(self, namespace: str, key: K, value: V, *, first: bool = False) -> V | None:
        """Keep a value as the youngest of its namespace, or as the eldest; returns the one that gave way to it."""
        share = self._shares.setdefault(namespace, OrderedDict())
        self._count += key not in share
        share[key] = value
        share.move_to_end(key, last=not first)
        if self._count <= self._size:
            return None
        return self._pop(max(self._shares, key=lambda one: len(self._shares[one])))

    def drop(self, namespace: str, key: K) -> None:
        """Forget a key, if it is there."""
        share = self._shares.get(namespace)
        if share is not None and share.pop(key, None) is not None:
            self._count -= 1
            if not share:
                del self._shares[namespace]

    def take(self) -> V:
        """The eldest value of one namespace after the other, which is then forgotten.

        Raises:
            KeyError: there is none.
        """
        namespace = next(iter(self._shares), None)
        if namespace is None:
            raise KeyError
        self._shares.move_to_end(namespace)
        return self._pop(namespace)

    def values(self) -> list[V]:
        """All of them."""
        return [value for share in self._shares.values() for value in share.values()]

    def retain(self, wanted: Callable[[V], bool], *, namespace: str | None = None) -> None:
        """Forget all values, or those of one namespace, that are not wanted."""
        for name in list(self._shares) if namespace is None else [namespace] * (namespace in self._shares):
            kept = OrderedDict((key, value) for key, value in self._shares[name].items() if wanted(value))
            self._count += len(kept) - len(self._shares[name])
            if kept:
                self._shares[name] = kept
            else:
                del self._shares[name]

    def _pop(self, namespace: str) -> V:
        share = self._shares[namespace]
        _, value = share.popitem(last=False)
        self._count -= 1
        if not share:
            del self._shares[namespace]
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """So many at once, and after that so many per second."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBucket:
    """What is left of an allowance at a tick."""

    left: float
    at: float


def take_token(bucket: TokenBucket | None, allowance: RateLimit, now: float) -> TokenBucket | None:
    """What is left of an allowance after spending one, or None if there was nothing left to spend."""
    left = allowance.burst
    if bucket is not None:
        left = min(allowance.burst, bucket.left + (now - bucket.at) * allowance.per_second)
    return TokenBucket(left=left - 1, at=now) if left >= 1 else None
