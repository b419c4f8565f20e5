"""Shrinking one Deployment without hurting a task: drain, mark, then lower replicas.

A victim is asked to drain, by a request that lapses unless it is renewed, and stays ready while it finishes. Only when
it has drained (or its time is up) is it marked with a deletion cost, and only when the marks are seen are the replicas
lowered: the ReplicaSet then removes exactly the marked pods. It removes pods that are not ready before any others
whatever their cost, so nothing is lowered while a pod that should stay is not ready, nor while one still bears a mark
that it should not have.

The way of the request: `planner` puts it into the plan, `database_writes` writes it as a row of `flowworker.drains`
(`database/sql/probe/drain.sql` of the worker's package), the worker's next heartbeat reads it (`workers/beat.sql`), and
the worker's `runtime/lifecycle.py` decides to drain, which `runtime/worker_lifecycle.py` does.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from flowworker_operator.domain.snapshot import PodState, RevisionState, WorkerState

DRAIN_SECONDS = 30.0
"""How long a drain stays in force without being renewed."""

_GONE = frozenset({WorkerState.STOPPED, WorkerState.LOST})
_OVER = _GONE | {WorkerState.DRAINED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """What to do to one Deployment and its pods to get to the wanted number."""

    replicas: int | None = None
    """New value; None leaves it."""
    drain: tuple[PodState, ...] = ()
    """Pods whose drain is to be written or renewed."""
    resume: tuple[PodState, ...] = ()
    """Pods that may go on working."""
    mark: tuple[PodState, ...] = ()
    unmark: tuple[PodState, ...] = ()


def resize(revision: RevisionState, wanted: int, *, drain_timeout: float, informed: bool) -> Resize:
    """One step from the replicas there are to the replicas wanted.

    Args:
        revision: the Deployment with its pods.
        wanted: replicas to end with.
        drain_timeout: seconds after which a victim is not waited for.
        informed: the reports and drains are fresh; without them only growth is safe.
    """
    if not informed:
        return Resize(replicas=wanted if wanted > revision.replicas else None)
    leaving = _leaving(revision)
    staying = [pod for pod in revision.live if pod not in leaving]
    absent = max(0, revision.replicas - len(staying))
    excess = max(0, revision.replicas - wanted)
    chosen = victims(staying, max(0, excess - absent))
    gone = [pod for pod in chosen if _may_go(pod, drain_timeout)]
    kept = [pod for pod in staying if pod not in chosen]
    return Resize(
        replicas=_replicas(revision, wanted, absent=absent, staying=staying, gone=gone),
        drain=(*chosen, *departing(revision)),
        resume=tuple(pod for pod in kept if pod.drain is not None),
        mark=tuple(pod for pod in gone if not pod.marked),
        unmark=tuple(pod for pod in staying if pod.marked and pod not in gone),
    )


def victims(pods: Iterable[PodState], count: int) -> tuple[PodState, ...]:
    """Which pods should go, best choice first."""
    return tuple(sorted(pods, key=_reluctance)[:count])


def departing(revision: RevisionState) -> tuple[PodState, ...]:
    """Pods that go for sure and must not claim meanwhile, however long it takes."""
    return (*_leaving(revision), *_ending(revision))


def _reluctance(pod: PodState) -> tuple[bool, bool, bool, float, float, str]:
    report = pod.report
    return (
        report is not None and report.on_last_attempt,
        pod.ready,
        pod.drain is None,  # stay with a choice once made
        float("inf") if report is None else report.in_flight,
        -pod.created_at.timestamp(),
        pod.name,
    )


def _leaving(revision: RevisionState) -> tuple[PodState, ...]:
    """Marked pods that the ReplicaSet still has to remove to reach its replicas."""
    surplus = max(0, len(revision.live) - revision.replicas)
    return tuple(pod for pod in sorted(revision.live, key=_reluctance) if pod.marked)[:surplus]


def _ending(revision: RevisionState) -> tuple[PodState, ...]:
    """Pods that are being deleted and may still run: a container that starts once more in one must not claim."""
    return tuple(pod for pod in revision.pods if pod.ending and pod.report and pod.report.state not in _GONE)


def _may_go(pod: PodState, drain_timeout: float) -> bool:
    if pod.report is None and not pod.ready:
        return True  # it has never registered, so it holds nothing
    if pod.drain is None:
        return False  # it may still claim
    return pod.drain.age >= drain_timeout or (pod.report is not None and pod.report.state in _OVER)


def _replicas(
    revision: RevisionState, wanted: int, *, absent: int, staying: list[PodState], gone: list[PodState]
) -> int | None:
    if wanted > revision.replicas:
        return wanted
    excess = revision.replicas - wanted
    if absent > 0 and excess > 0:
        return revision.replicas - min(absent, excess)  # pods that do not exist need no drain
    marked = [pod for pod in gone if pod.marked]
    # Before these the ReplicaSet would take: a pod that is not ready, and one whose mark is still to be taken away.
    in_danger = [pod for pod in staying if pod not in marked and (pod.marked or not pod.ready)]
    return revision.replicas - len(marked) if marked and not in_danger else None
