"""The status of a FlowWorker, also of one that cannot be served, and when it is worth writing."""

from collections.abc import Mapping
from datetime import datetime

from flowworker_operator.api.conditions import ConditionType
from flowworker_operator.api.status import (
    LONGEST_ERROR,
    LONGEST_MESSAGE,
    MOST_LISTED_WORKERS,
    Condition,
    FlowWorkerStatus,
    Queue,
    Revision,
    ScalingStatus,
    WorkerEntry,
    Workers,
)
from flowworker_operator.bounded import RateLimit, take_token
from flowworker_operator.domain.conditions import Facts, Truth, conditions
from flowworker_operator.domain.naming import selector
from flowworker_operator.domain.snapshot import Demand, Fault, PodState, Snapshot, WorkerState
from flowworker_operator.domain.words import printable

WRITES = RateLimit(burst=200, per_second=1 / 5)
"""Of a status, on top of those after WRITE_EVERY: what comes from pods and databases may change all the time."""

WRITE_EVERY = 10.0
"""Seconds between two writes of mere observations. A change of a condition, of the revision or of the number of workers
wanted is written at once, and so is when the first of them is ready, the last, or none any more: people wait for these,
and the number wanted is what a restarted operator goes on from."""

_REJECTED: Mapping[ConditionType, Truth] = {
    ConditionType.READY: "False",
    ConditionType.PROGRESSING: "False",
    ConditionType.STALLED: "True",
}
"""Conditions of a FlowWorker that cannot be served."""

_LEAVING = frozenset({WorkerState.DRAINING, WorkerState.DRAINED, WorkerState.STOPPING})


def status_of(facts: Facts) -> FlowWorkerStatus:
    """The status that reports what was seen and decided."""
    snapshot = facts.snapshot
    pods = [pod for revision in facts.revisions for pod in revision.live]
    return FlowWorkerStatus(
        observed_generation=snapshot.generation,
        served_by=snapshot.status.served_by,
        replicas=len(pods),
        ready_replicas=sum(pod.ready for pod in pods),
        selector=selector(snapshot.claim.name),
        revision=Revision(current=snapshot.target, proven=facts.current is not None and facts.current.proven),
        queue=_queue(snapshot),
        workers=_workers(pods),
        scaling=_scaling(facts),
        conditions=conditions(facts),
    )


def due(snapshot: Snapshot, status: FlowWorkerStatus) -> bool:
    """Whether to write a status now, later or not at all."""
    if status == snapshot.status:
        return False
    written_at, tick = snapshot.status_written_at, snapshot.at.tick
    if (
        written_at is None
        or tick - written_at >= WRITE_EVERY
        or status.observed_generation != snapshot.status.observed_generation
    ):
        return True
    return is_notable(snapshot, status) and take_token(snapshot.status_writes, WRITES, tick) is not None


def is_notable(snapshot: Snapshot, status: FlowWorkerStatus) -> bool:
    """Whether a status says something that people wait for."""
    return _headline(status) != _headline(snapshot.status)


def _headline(status: FlowWorkerStatus) -> tuple[object, ...]:
    scaling = None if status.scaling is None else (status.scaling.mode, status.scaling.desired)
    truths = [(one.type, one.status, one.reason) for one in status.conditions]
    wanted = 0 if status.scaling is None else status.scaling.desired
    readiness = (status.ready_replicas > 0, status.ready_replicas >= wanted)
    return status.observed_generation, status.revision, scaling, readiness, truths


def _queue(snapshot: Snapshot) -> Queue | None:
    """The last reading; its time is that of the last change, so that an idle queue is no reason to write."""
    before, demand = snapshot.status.queue, snapshot.database.demand
    if demand is None:
        return before
    now = snapshot.at.wall.replace(microsecond=0)
    queue = _reading(demand, now if before is None else before.observed_at)
    return queue if queue == before else queue.model_copy(update={"observed_at": now})


def _reading(demand: Demand, observed_at: datetime) -> Queue:
    oldest = demand.oldest_startable_at
    return Queue(
        depth=demand.depth,
        startable=demand.startable,
        in_flight=demand.in_flight,
        delayed=demand.delayed,
        stalled=demand.stalled,
        oldest_startable_at=None if oldest is None else oldest.replace(microsecond=0),
        observed_at=observed_at,
    )


def _workers(pods: list[PodState]) -> Workers:
    states = [pod.report.state for pod in pods if pod.report is not None]
    return Workers(
        total=len(pods),
        running=sum(state is WorkerState.RUNNING for state in states),
        draining=sum(state in _LEAVING for state in states),
        lost=sum(state is WorkerState.LOST for state in states),
        list_=tuple(_entry(pod) for pod in sorted(pods, key=_attention)[:MOST_LISTED_WORKERS]),
    )


def _attention(pod: PodState) -> tuple[bool, bool, bool, str]:
    report = pod.report
    lost = report is not None and report.state is WorkerState.LOST
    troubled = report is not None and report.last_error is not None
    return not lost, pod.ready, not troubled, pod.name


def _entry(pod: PodState) -> WorkerEntry:
    report = pod.report
    if report is None:
        return WorkerEntry(pod=pod.name, state="unknown")
    error = report.last_error
    return WorkerEntry(
        pod=pod.name,
        state=report.state.value,
        in_flight=report.in_flight,
        last_error=None if error is None else error[:LONGEST_ERROR],
    )


def _scaling(facts: Facts) -> ScalingStatus:
    before, decision = facts.snapshot.status.scaling, facts.decision
    changed = facts.snapshot.at.wall.replace(microsecond=0)
    if before is not None and before.desired == decision.desired:
        changed = before.last_scale_time
    return ScalingStatus(
        desired=decision.desired,
        reason=decision.reason,
        message=decision.message[:LONGEST_MESSAGE],
        mode=facts.snapshot.spec.scaling.mode,
        last_scale_time=changed,
    )


def rejected(status: FlowWorkerStatus, fault: Fault, *, generation: int, at: datetime) -> FlowWorkerStatus:
    """The previous status with conditions that say what is wrong; its numbers stay, as the workers do.

    Args:
        status: before.
        fault: what is wrong with the spec.
        generation: of the spec.
        at: now.
    """
    others = tuple(one for one in status.conditions if one.type not in _REJECTED)
    ours = tuple(_rejection(status, kind, fault, generation, at) for kind in _REJECTED)
    return status.model_copy(update={"observed_generation": generation, "conditions": (*ours, *others)})


def _rejection(status: FlowWorkerStatus, kind: ConditionType, fault: Fault, generation: int, at: datetime) -> Condition:
    truth = _REJECTED[kind]
    before = next((one for one in status.conditions if one.type == kind), None)
    kept = before is not None and before.status == truth
    return Condition.model_validate(
        {
            "type": kind,
            "status": truth,
            "observed_generation": generation,
            "last_transition_time": before.last_transition_time if before and kept else at.replace(microsecond=0),
            "reason": fault.reason,
            "message": printable(fault.message[:LONGEST_MESSAGE]),
        }
    )
