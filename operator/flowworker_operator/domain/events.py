"""What is sent as events: decisions with a plan, changes once they are made, each once."""

from collections.abc import Iterable, Sequence

from flowworker_operator.api.conditions import ConditionType, Reason
from flowworker_operator.api.spec import ScalingMode
from flowworker_operator.api.status import Condition, FlowWorkerStatus
from flowworker_operator.domain.plan import (
    Adopt,
    Budget,
    Change,
    Compile,
    Create,
    Delete,
    Drain,
    Event,
    Mark,
    Prove,
    Remove,
    Repair,
    Scale,
    SetReplicas,
)
from flowworker_operator.domain.snapshot import Loss, Snapshot, WorkerState

_ANNOUNCED = frozenset(
    {
        ConditionType.READY, ConditionType.PROGRESSING, ConditionType.DATABASE_REACHABLE, ConditionType.SCHEMA_READY,
        ConditionType.SCALE_IGNORED, ConditionType.DRAINS_IN_TIME, ConditionType.CONTESTED,
    }
)  # fmt: skip
_BAD_WHEN_TRUE = frozenset({ConditionType.SCALE_IGNORED, ConditionType.CONTESTED})
_ON_THE_WAY = frozenset({Reason.PROVING, Reason.ROLLING_OUT, Reason.TERMINATING})
"""Reasons for which Ready is False without anything being wrong. Progressing has the same reason and its own event."""
_LEAVING = frozenset({WorkerState.DRAINING, WorkerState.DRAINED, WorkerState.STOPPING})


def events_of(snapshot: Snapshot, status: FlowWorkerStatus, before: int, *, shown: bool) -> tuple[Event, ...]:
    """The events about a plan, whether or not it can be applied: its decision, and what was seen.

    Args:
        snapshot: what the plan was made from.
        status: after the plan.
        before: workers wanted until now.
        shown: whether that status is written: a condition is announced when others can see it.
    """
    return (*_scaled(status, before), *(_conditions(snapshot, status) if shown else ()))


def draining(new: Sequence[Drain]) -> Iterable[Event]:
    """The event about workers that were newly asked to drain."""
    if new:
        pods = ", ".join(sorted(drain.pod for drain in new))
        yield Event(type="Normal", reason="Draining", message=f"{pods}: {new[0].reason}")


def event_of(change: Change) -> Iterable[Event]:
    """The event about a change that was done; only steps of a rollout have one."""
    match change:
        case Compile():
            yield Event(type="Normal", reason="Compiling", message=f"{change.pod}: {change.reason}")
        case Create():
            yield Event(type="Normal", reason="RevisionCreated", message=f"{change.name}: {change.reason}")
        case Adopt():
            yield Event(type="Normal", reason="RevisionAdopted", message=f"{change.name}: {change.reason}")
        case Prove():
            yield Event(type="Normal", reason="RevisionProven", message=f"{change.name}: {change.reason}")
        case Repair():
            yield Event(type="Normal", reason="RevisionRepaired", message=f"{change.name}: {change.reason}")
        case Delete():
            yield Event(type="Normal", reason="RevisionDeleted", message=f"{change.name}: {change.reason}")
        case Mark() | Remove() | Scale() | Budget() | SetReplicas():
            return


def budget_in_the_way(name: str) -> Event:
    """The event about a disruption budget that cannot be created because another owner's has its name."""
    message = f"poddisruptionbudget {name} belongs to another owner: delete or rename it; these workers have none"
    return Event(type="Warning", reason="BudgetInTheWay", message=message)


def lost(workers: Sequence[Loss], *, others: bool) -> Iterable[Event]:
    """The event about workers that ended without reporting it.

    Args:
        workers: with their last reports; one that was leaving and held nothing has lost nothing and is left out.
        others: whether other workers of the FlowWorker are ready.
    """
    harmed = [one for one in workers if one.in_flight or one.state not in _LEAVING]
    if harmed:
        tasks = sum(one.in_flight for one in harmed)
        names = ", ".join(sorted({one.pod for one in harmed}))
        message = f"{names}: ended without reporting it; {_inheritance(tasks, others=others)}"
        yield Event(type="Warning", reason="WorkersLost", message=message)


def _inheritance(tasks: int, *, others: bool) -> str:
    if not tasks:
        return "no task was held at the last report"
    held = (
        "1 task was held at the last report and goes"
        if tasks == 1
        else (f"{tasks} tasks were held at the last report and go")
    )
    return f"{held} to {'other workers' if others else 'the next worker'}"


def shared(kind: str) -> Event:
    """The event for when a FlowWorker of another namespace seems to take from the same queue.

    It is not named: a database may claim to be another one, and would so learn what there is elsewhere.
    """
    message = (
        f"a FlowWorker of another namespace takes from the queue of this {kind}, or its database claims so; both run"
    )
    return Event(type="Warning", reason="SharedDatabase", message=message)


def restarted(pod: str, end: str) -> Event:
    """The event about a worker that has ended and whose container was started again."""
    return Event(type="Warning", reason="WorkerRestarted", message=f"{pod}: its worker ended ({end}) and starts again")


def _scaled(status: FlowWorkerStatus, before: int) -> Iterable[Event]:
    scaling = status.scaling
    if scaling is not None and scaling.desired != before:
        reason = "ScaledUp" if scaling.desired > before else "ScaledDown"
        message = f"from {before} to {scaling.desired} workers ({scaling.reason}): {scaling.message}"
        if scaling.mode is ScalingMode.DRY_RUN:
            reason, message = "WouldScale", f"nothing is changed; without the dry run {message}"
        yield Event(type="Normal", reason=reason, message=message)


def _conditions(snapshot: Snapshot, status: FlowWorkerStatus) -> Iterable[Event]:
    before = {condition.type: (condition.status, condition.reason) for condition in snapshot.status.conditions}
    for now in status.conditions:
        if now.type in _ANNOUNCED and not _is_on_the_way(now) and _changed(now, before.get(now.type)):
            kind = "Warning" if _bad(now) else "Normal"
            yield Event(type=kind, reason=now.reason, message=f"{now.type} is {now.status}: {now.message}")


def _is_on_the_way(now: Condition) -> bool:
    return now.type == ConditionType.READY and now.reason in _ON_THE_WAY


def _changed(now: Condition, before: tuple[str, str] | None) -> bool:
    """A first status that is good or unknown is no event."""
    return (before is not None or _bad(now)) and (now.status, now.reason) != before


def _bad(condition: Condition) -> bool:
    wrong = "True" if condition.type in _BAD_WHEN_TRUE else "False"
    return condition.status == wrong
