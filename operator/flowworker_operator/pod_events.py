"""What kubelet cannot say in the status of a pod: why it cannot mount its volumes, or set up its network.

Only an event says so. Events are never watched: those of one pod are read by its uid, and only while the pod hangs
where the status says nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from flowworker_operator.bounded import Recent
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError
from flowworker_operator.cluster.resources import EVENTS, Object
from flowworker_operator.domain.snapshot import Obstacle

FRESH_FOR = 5.0
"""Seconds after which the events of a pod are read again."""
LONGEST_FRESH_FOR = 60.0
PART_OF_AGE = 0.1
"""The same as a part of the pod's age: what has hung for long is not news every few seconds."""
REMEMBERED = 1000
"""Pods at most."""

OBSTACLES = frozenset(
    {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}
)
"""Reasons of events that say why the containers of a pod are not created."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    obstacle: Obstacle | None


class PodEvents:
    """Reads the events of single pods and remembers them for a while."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        """Read nothing yet; `clock` gives monotonic seconds."""
        self._cluster = cluster
        self._clock = clock
        self._reads: Recent[str, _Read] = Recent(REMEMBERED)

    async def obstacle(self, pod: Object, age: float) -> Obstacle | None:
        """The newest event that says why a pod does not start; None where there is none, or events cannot be read.

        Args:
            pod: the object.
            age: of the pod in seconds.
        """
        uid, now = pod["metadata"]["uid"], self._clock()
        known = self._reads.get(uid)
        if known is not None and now - known.at < min(LONGEST_FRESH_FOR, max(FRESH_FOR, PART_OF_AGE * age)):
            return known.obstacle
        try:
            events = await self._cluster.list(
                EVENTS, pod["metadata"]["namespace"], fields=f"involvedObject.uid={uid},type=Warning"
            )
            found = newest_obstacle(events)
        except ClusterError as error:
            logger.info("cannot read the events of a pod", pod=pod["metadata"]["name"], error=str(error))
            found = None if known is None else known.obstacle
        self._reads.set(uid, _Read(now, found))
        return found


def newest_obstacle(events: Iterable[Object]) -> Obstacle | None:
    """What holds a pod up now, from its events: an older one may have been removed since."""
    hindering = [event for event in events if event.get("reason") in OBSTACLES]
    if not hindering:
        return None
    newest = max(hindering, key=_last_seen)
    return Obstacle(reason=newest["reason"], message=newest.get("message") or "")


def _last_seen(event: Object) -> str:
    """A time as the API server writes it: in UTC, so that the order of the texts is that of the times."""
    series: Object = event.get("series") or {}
    return (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp", "")
    )
