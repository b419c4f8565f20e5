"""Which revision runs how many workers: one Deployment per pod template, which is only scaled.

A new revision proves itself with one pod, also when nothing is wanted. Until then the newest proven revision serves all
demand. Afterwards new pods come, and for each that is ready an old one goes; together they are never more than wanted
plus a quarter (at least one).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flowworker_operator.domain.snapshot import PodState, RevisionState, Snapshot, WorkerState

PROOF_REPLICAS = 1

_REGISTERED = frozenset({WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.DRAINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Replicas per Deployment, by name, and the Deployments that are of no more use."""

    replicas: Mapping[str, int]
    obsolete: tuple[RevisionState, ...] = ()


def allocate(revisions: Sequence[RevisionState], target: str, desired: int) -> Allocation:
    """Divide the wanted workers among the revisions.

    Args:
        revisions: all Deployments of the FlowWorker.
        target: hash of the revision asked for; its Deployment may not exist yet.
        desired: workers wanted.
    """
    serving = serving_revision(revisions, target)
    unproven = {item.name: PROOF_REPLICAS if item.revision == target else 0 for item in revisions if not item.proven}
    older = sorted(
        (item for item in revisions if item.proven and item is not serving),
        key=lambda item: item.created_at,
        reverse=True,
    )
    proven = {} if serving is None else _replace(serving, older, desired)
    return Allocation(
        replicas={**unproven, **proven},
        obsolete=tuple(
            item
            for item in revisions
            if item is not serving and item.revision != target and item.replicas == 0 and not item.pods
        ),
    )


def serving_revision(revisions: Sequence[RevisionState], target: str) -> RevisionState | None:
    """The revision that serves the demand: the one asked for, or else the newest one that is proven."""
    proven = sorted((item for item in revisions if item.proven), key=lambda item: item.created_at)
    return next((item for item in proven if item.revision == target), proven[-1] if proven else None)


def most_together(desired: int) -> int:
    """Most replicas of all proven revisions during a replacement, where growth has a say."""
    return desired + max(1, desired // 4)


def established(revisions: Sequence[RevisionState]) -> int:
    """Replicas of the proven revisions, without the surge of a replacement that may be under way.

    It never exceeds what was wanted, so that an operator that starts in the middle does not take the surge for demand.
    """
    counts = [item.replicas for item in revisions if item.proven and item.replicas]
    total = sum(counts)
    if len(counts) < 2:
        return total
    return next(desired for desired in range(total + 1) if most_together(desired) >= total)


def compiled(snapshot: Snapshot) -> bool:
    """Whether the flow or queue is there as far as the revision asked for needs its owner for that."""
    done = snapshot.compiler is not None and snapshot.compiler.done
    return done or snapshot.spec.database.owner_secret_ref is None


def proof(revision: RevisionState, kind: str, slug: str) -> PodState | None:
    """The pod that proves a revision: ready, registered, reporting, and serving what the spec says."""
    for pod in revision.live:
        report = pod.report
        if pod.ready and report and report.state in _REGISTERED and (report.kind, report.slug) == (kind, slug):
            return pod
    return None


def overdue(revision: RevisionState, snapshot: Snapshot) -> bool:
    """Whether a revision has had more time to prove itself than the spec gives."""
    return late(_started(revision), snapshot)


def late(since: datetime, snapshot: Snapshot) -> bool:
    """Whether what began then has had more time than the spec gives."""
    return (snapshot.at.wall - since).total_seconds() > snapshot.spec.rollout.progress_deadline_seconds


def _started(revision: RevisionState) -> datetime:
    return max((pod.created_at for pod in revision.live), default=revision.created_at)


def _replace(serving: RevisionState, older: Sequence[RevisionState], desired: int) -> dict[str, int]:
    """Let the serving revision grow into the room there is, and the older ones shrink as it gets ready."""
    total = sum(item.replicas for item in older)
    room = most_together(desired) - total if total else desired
    grown = min(desired, max(serving.replicas, room))
    ready = min(grown, sum(pod.ready and pod.drain is None for pod in serving.live))
    result = {serving.name: grown}
    left = max(0, desired - ready)
    for item in older:
        result[item.name] = min(item.replicas, left)
        left -= result[item.name]
    return result
