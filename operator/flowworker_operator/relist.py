"""Reading everything anew, slowly: what no watch tells, such as a deletion while it was down, is found all the same."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError, NotFound
from flowworker_operator.cluster.resources import FLOWWORKERS, Object, Resource
from flowworker_operator.metrics import Metrics
from flowworker_operator.probe import Key
from flowworker_operator.store import Store

JITTER = 0.2
"""Part of the time between two re-lists that is left to chance."""
TRY_AGAIN = 2.0

logger = structlog.stdlib.get_logger(__name__)


class Relister:
    """Keeps a store complete."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        selectors: Mapping[Resource, str],
        namespaces: Sequence[str],
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
            selectors: the kinds to read, each with its label selector.
            namespaces: to read; none means all of the cluster.
            metrics: told of changes that no watch had told.
            every: seconds between two re-lists, give or take JITTER of it.
            clock: monotonic seconds.
            random: numbers from 0 to 1.
            changed: called for each FlowWorker that something was new for.
        """
        self._cluster = cluster
        self._store = store
        self._selectors = selectors
        self._namespaces = namespaces
        self._metrics = metrics
        self._every = every
        self._clock = clock
        self._random = random
        self._changed = changed
        self._told_at: dict[Resource, float] = {}
        self._listed_at: float | None = None
        self._blind_since: dict[Resource, float] = {}
        self._first = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Whether everything was read at least once."""
        return self._listed_at is not None

    @property
    def blind_for(self) -> float:
        """Seconds since which every re-list found changes that the watch of their kind kept silent about."""
        return max((self._clock() - since for since in self._blind_since.values()), default=0.0)

    async def wait_synced(self) -> None:
        """Return once everything was read."""
        await self._first.wait()

    def told(self, resource: Resource) -> None:
        """The watch of a kind has told something."""
        self._told_at[resource] = self._clock()
        self._blind_since.pop(resource, None)

    async def once(self) -> None:
        """Read everything.

        Raises:
            ClusterError: something could not be read; what could be is taken over.
        """
        before, began = self._listed_at, self._clock()
        for resource in self._selectors:
            found = await self._read(resource)
            if not found:
                self._blind_since.pop(resource, None)
            elif before is not None:
                self._metrics.missed.labels(resource.plural).inc(found)
                if self._told_at.get(resource, before) <= before:
                    self._blind_since.setdefault(resource, began)
        self._listed_at = began
        self._first.set()

    async def run(self) -> None:
        """Read everything now and then, until cancelled."""
        while True:
            try:
                await self.once()
                pause = self._every * (1 + JITTER * (2 * self._random() - 1))
            except ClusterError as error:
                pause = TRY_AGAIN
                logger.warning("cannot read the cluster", error=_advice(error))
            await asyncio.sleep(pause)

    async def _read(self, resource: Resource) -> int:
        since, selector = self._store.mark(), self._selectors[resource]
        items: list[Object] = []
        for namespace in self._namespaces or (None,):
            items += await self._cluster.list(resource, namespace, labels=selector)
        changed = self._store.replace(resource, items, since)
        for key in sorted(changed):
            self._changed(key)
        return len(changed)


def _advice(error: ClusterError) -> str:
    if isinstance(error, NotFound) and FLOWWORKERS.plural in error.where:
        return f"{error}; the CRD is missing, install crds/flowworkers.flowworker.dev.yaml"
    return str(error)
