"""Slow, regular re-lists: they find what no watch delivers, such as a deletion while it was down."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import structlog

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError, NotFound, Refused
from flowworker_operator.cluster.resources import FLOWWORKERS, Resource
from flowworker_operator.database import Key
from flowworker_operator.metrics import Metrics
from flowworker_operator.readable_scopes import ReadableScopes, Scope
from flowworker_operator.store import Store, slim

JITTER = 0.2
"""Part of the time between two re-lists that is left to chance."""
TRY_AGAIN = 2.0
"""Seconds to the next try of what could not be read; each later pause is twice as long after refusals."""
LONGEST_PAUSE = 30.0

logger = structlog.stdlib.get_logger(__name__)


class Relister:
    """Keeps a store complete."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        readable: ReadableScopes,
        selectors: Mapping[Resource, str],
        metrics: Metrics,
        every: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        changed: Callable[[Key], None],
    ) -> None:
        """Prepare.

        Args:
            cluster: to read from.
            store: to keep complete.
            readable: what to read; is notified of what can be read.
            selectors: the label selector of each kind.
            metrics: counts changes that no watch had delivered.
            every: seconds between two re-lists, give or take JITTER of it.
            clock: monotonic seconds.
            random: numbers from 0 to 1.
            changed: called for each FlowWorker that something was new for.
        """
        self._cluster = cluster
        self._store = store
        self._readable = readable
        self._selectors = selectors
        self._metrics = metrics
        self._every = every
        self._clock = clock
        self._random = random
        self._changed = changed
        self._delivered_at: dict[Resource, float] = {}
        self._listed_at: float | None = None
        self._blind_since: dict[Resource, float] = {}
        self._first = asyncio.Event()
        self._wanted = asyncio.Event()

    @property
    def blind_for(self) -> float:
        """Seconds since which every re-list found changes that the watch of their kind kept silent about."""
        return max((self._clock() - since for since in self._blind_since.values()), default=0.0)

    async def wait_listed(self) -> None:
        """Return once everything was asked for."""
        await self._first.wait()

    def delivered(self, resource: Resource) -> None:
        """Record that the watch of a resource has delivered something."""
        self._delivered_at[resource] = self._clock()
        self._blind_since.pop(resource, None)

    def soon(self) -> None:
        """Read everything without waiting for the next turn: a watch has ended, and something may have been missed."""
        self._wanted.set()

    async def once(self, *, strict: bool = False) -> None:
        """Read everything that can be read.

        Args:
            strict: what cannot be read now is not known, whatever was read before.
        """
        before, began = self._listed_at, self._clock()
        found, failed = await self._pass(self._readable.scopes, strict=strict)
        for resource in self._selectors:
            if found[resource] and before is not None:
                self._metrics.missed.labels(resource.plural).inc(found[resource])
                if self._delivered_at.get(resource, before) <= before:
                    self._blind_since.setdefault(resource, began)
            elif resource not in failed:
                self._blind_since.pop(resource, None)
        self._listed_at = began
        self._first.set()

    async def run(self) -> None:
        """Read everything now and then, and what could not be read more often, until cancelled."""
        tries = 0
        while True:
            self._wanted.clear()
            await self.once()
            due = self._clock() + self._every * (1 + JITTER * (2 * self._random() - 1))
            while not self._wanted.is_set() and (left := due - self._clock()) > 0:
                tries = tries + 1 if self._readable.barred else 0
                await self._wait(min(left, self._pause(tries)) if tries else left)
                if tries and not self._wanted.is_set():
                    await self._pass(tuple(self._readable.barred), strict=False)

    def _pause(self, tries: int) -> float:
        if all(isinstance(error, Refused) for error in self._readable.barred.values()):
            return min(LONGEST_PAUSE, TRY_AGAIN * 2.0 ** min(tries - 1, 16))
        return TRY_AGAIN

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def _pass(self, scopes: Iterable[Scope], *, strict: bool) -> tuple[Counter[Resource], set[Resource]]:
        """Read some scopes; gives how many changes were found, and of which kinds not all could be read."""
        found, failed = Counter[Resource](), set[Resource]()
        for scope in scopes:
            try:
                found[scope.resource] += await self._read(scope)
                self._readable.see(scope)
            except ClusterError as error:
                failed.add(scope.resource)
                self._failed(scope, error, strict=strict)
            except Exception:  # one object that cannot be understood must not end the reading of all others
                logger.exception("cannot understand what was read of the cluster", scope=str(scope))
                failed.add(scope.resource)
            barred = scope in self._readable.barred
            self._metrics.unreadable.labels(scope.namespace or "", scope.resource.plural).set(barred)
        return found, failed

    def _failed(self, scope: Scope, error: ClusterError, *, strict: bool) -> None:
        """A hiccup is no reason to forget what was read: the watches go on."""
        if self._readable.knows(scope) and not strict and not isinstance(error, Refused | NotFound):
            logger.warning("cannot read the cluster", scope=str(scope), error=str(error))
        elif self._readable.bar(scope, error):
            for key in self._store.keys(FLOWWORKERS):
                if scope.namespace in (None, key.namespace):
                    self._changed(key)

    async def _read(self, scope: Scope) -> int:
        since, selector = self._store.mark(), self._selectors[scope.resource]
        items = await self._cluster.list(
            scope.resource, scope.namespace, labels=selector, keep=partial(slim, scope.resource)
        )
        changed = self._store.replace(scope.resource, items, since, namespace=scope.namespace)
        for key in sorted(changed):
            self._changed(key)
        return len(changed)
