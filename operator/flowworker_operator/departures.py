"""Pods whose worker has ended, or may have: whose workers have to be marked lost, and what is announced of them.

Tasks of a worker that is marked lost in the database are given back at once. Without, they wait until its silence is
noticed.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from flowworker_operator.bounded import Recent
from flowworker_operator.cluster.resources import Object
from flowworker_operator.database import Key
from flowworker_operator.domain.events import lost, restarted
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Loss
from flowworker_operator.gather_pods import has_ended, is_silent, last_end, pod_state, restarts

MARKING = 12.0
"""Seconds for which the workers of a silent pod are marked lost, again and again: two rounds at least."""
REMEMBERED = 1000
"""Deleted pods of a FlowWorker; the silence of others is noticed later."""


@dataclass(slots=True)
class _Departed:
    """What is known of the pods of one FlowWorker."""

    gone: Recent[str, None] = field(default_factory=lambda: Recent[str, None](REMEMBERED))
    """Uids of those that were deleted when their worker had ended."""
    doubted: Recent[str, float] = field(default_factory=lambda: Recent[str, float](REMEMBERED))
    """Since when those are deleted whose worker may live on, by uid."""
    silent: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])
    """Since when no worker runs in those that are there, by uid and how often the container was started again."""
    restarts: dict[str, int] = field(default_factory=dict[str, int])
    """How often the worker of each was started again, by uid."""


class Departures:
    """Remembers pods of FlowWorkers whose worker has ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Know none; `clock` gives monotonic seconds."""
        self._clock = clock
        self._departed: dict[Key, _Departed] = {}

    def deleted(self, key: Key, pod: Object) -> None:
        """Take in that a pod of a FlowWorker was deleted.

        Its worker is marked lost at once where the pod's last state proves that it has ended, otherwise once it misses
        a heartbeat.
        """
        known, uid = self._of(key), pod["metadata"]["uid"]
        if has_ended(pod):
            known.gone.set(uid, None)
        else:
            known.doubted.set(uid, self._clock())

    def in_doubt(self, key: Key) -> bool:
        """Whether the worker of a deleted pod may live on."""
        known = self._departed.get(key)
        return known is not None and len(known.doubted) > 0

    def to_mark(
        self, key: Key, pods: Iterable[Object], marked: Iterable[str]
    ) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """Pods whose workers are to be marked lost, by uid: those that are gone for sure, and those in doubt.

        Args:
            key: of the FlowWorker.
            pods: in which its workers run, as they are now.
            marked: uids of pods for which it is done.
        """
        known, now = self._of(key), self._clock()
        for uid in marked:
            known.gone.drop(uid)
        for uid, since in known.doubted.items():
            if now - since >= MARKING:
                known.doubted.drop(uid)
        silent = {(pod["metadata"]["uid"], restarts(pod)) for pod in pods if is_silent(pod)}
        known.silent = {one: known.silent.get(one, now) for one in silent}
        # Again and again for a while: the database spares a worker that has reported just now.
        doubtful = {uid for (uid, _), since in known.silent.items() if now - since < MARKING}
        return _uids(known.gone), doubtful | _uids(known.doubted)

    def restarted(self, key: Key, pods: Sequence[Object]) -> Sequence[Event]:
        """The events about workers that have ended and were started again since the last call."""
        known = self._of(key)
        before, known.restarts = known.restarts, {pod["metadata"]["uid"]: restarts(pod) for pod in pods}
        again = (pod for pod in pods if restarts(pod) > before.get(pod["metadata"]["uid"], restarts(pod)))
        return [restarted(pod["metadata"]["name"], last_end(pod)) for pod in again]

    def forget(self, key: Key) -> None:
        """A FlowWorker is gone, or another process leads."""
        self._departed.pop(key, None)

    def _of(self, key: Key) -> _Departed:
        return self._departed.setdefault(key, _Departed())


def lost_workers(losses: Sequence[Loss], pods: Sequence[Object]) -> Iterable[Event]:
    """The event about workers that were marked lost, beside the pods that there are."""
    dead = {loss.pod for loss in losses}
    others = (pod_state(pod, {}, {}) for pod in pods if losses)
    return lost(losses, others=any(pod.ready and pod.name not in dead for pod in others))


def _uids(recent: Recent[str, Any]) -> set[str]:
    return {uid for uid, _ in recent.items()}
