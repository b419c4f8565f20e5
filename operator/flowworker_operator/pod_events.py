"""What kubelet cannot say in the status of a pod: why it cannot mount its volumes, or set up its network.

Only an event says so. Events are never watched: those of one pod are read by its uid, and only while the pod hangs
where the status says nothing. Who may create events may create many and large ones: of one FlowWorker those of one pod
are read at a time, not all of them, and of these one is kept, cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError
from flowworker_operator.cluster.resources import EVENTS, Object
from flowworker_operator.database import Key
from flowworker_operator.domain.snapshot import Obstacle

FRESH_FOR = 5.0
"""Seconds after which the events of a pod are read again."""
LONGEST_FRESH_FOR = 60.0
PART_OF_AGE = 0.1
"""The same as a part of the pod's age: of a pod that has hung for long nothing new is expected every few seconds."""
MOST_READ = 500
"""Events of one pod: kubelet counts in one what it repeats."""
LONGEST_KEPT = 4096
"""Characters of a message."""

OBSTACLES = frozenset(
    {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"}
)
"""Reasons of events that say why the containers of a pod are not created."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    pod: str
    """Its uid."""
    at: float
    obstacle: Obstacle | None


class PodEvents:
    """Reads the events of one pod of each FlowWorker and remembers for a while what they said."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        """Read nothing yet; `clock` gives monotonic seconds."""
        self._cluster = cluster
        self._clock = clock
        self._reads: dict[Key, _Read] = {}

    async def obstacle(self, flowworker: Key, pod: Object, age: float) -> Obstacle | None:
        """The newest event that says why a pod does not start; None where there is none, or events cannot be read.

        Args:
            flowworker: that the pod belongs to. Right after the events of another pod of it nothing is read.
            pod: the object.
            age: of the pod in seconds.
        """
        uid, now, last = pod["metadata"]["uid"], self._clock(), self._reads.get(flowworker)
        known = last if last is not None and last.pod == uid else None
        fresh_for = FRESH_FOR if known is None else min(LONGEST_FRESH_FOR, max(FRESH_FOR, PART_OF_AGE * age))
        before = None if known is None else known.obstacle
        if last is not None and now - last.at < fresh_for:
            return before
        try:
            fields = f"involvedObject.uid={uid},type=Warning"
            namespace = pod["metadata"]["namespace"]
            found = newest_obstacle(
                await self._cluster.list(EVENTS, namespace, fields=fields, keep=_in_short, most=MOST_READ)
            )
        except ClusterError as error:
            logger.info("cannot read the events of a pod", pod=pod["metadata"]["name"], error=str(error))
            found = before
        self._reads[flowworker] = _Read(uid, now, found)
        return found

    def forget(self, flowworker: Key) -> None:
        """It is gone."""
        self._reads.pop(flowworker, None)


def _in_short(event: Object) -> Object:
    """What is looked at of an event, the message cut."""
    kept = {name: event.get(name) for name in ("reason", "series", "lastTimestamp", "eventTime")}
    metadata = {"creationTimestamp": event["metadata"].get("creationTimestamp", "")}
    return {**kept, "metadata": metadata, "message": (event.get("message") or "")[:LONGEST_KEPT]}


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
