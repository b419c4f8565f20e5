"""The conditions of a FlowWorker, from what was seen and decided."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flowworker.option_change import REMEDY
from flowworker_operator.api.conditions import FATAL, ConditionType, Reason
from flowworker_operator.api.spec import ScalingMode
from flowworker_operator.api.status import LONGEST_MESSAGE, Condition
from flowworker_operator.domain.grace import grace_remedy, grace_seconds
from flowworker_operator.domain.health import pod_fault, revision_fault
from flowworker_operator.domain.ownership import contention
from flowworker_operator.domain.rollout import late, overdue
from flowworker_operator.domain.scaling import DEFAULT_REPLICAS, Decision, fresh
from flowworker_operator.domain.snapshot import Claim, Fault, PodState, RevisionState, Snapshot, WorkerState
from flowworker_operator.domain.words import printable

UNREACHABLE_AFTER = 10.0
"""Seconds without a reading after which an error of the connection is more than a hiccup."""

START_TIME = timedelta(seconds=60)
"""How long pods of a proven revision may be not ready before this is called a fault."""

NAMED_OPTIONS = 5
"""Options that differ and are named in a condition."""

_AT_WORK = frozenset({WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.DRAINED})

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was decided, from which the conditions are computed."""

    snapshot: Snapshot
    decision: Decision
    owner: Claim
    revisions: Sequence[RevisionState]
    """As they will be known after this plan: with the proof that was found."""
    replicas_ignored: bool
    """Whether `spec.replicas` has no effect, and this plan does not put its default back."""

    @property
    def owned(self) -> bool:
        """Whether this FlowWorker may run workers."""
        return self.owner == self.snapshot.claim

    @property
    def current(self) -> RevisionState | None:
        """The revision asked for."""
        return next((item for item in self.revisions if item.revision == self.snapshot.target), None)

    @property
    def older(self) -> list[RevisionState]:
        """Other revisions that still have or want pods."""
        others = (item for item in self.revisions if item.revision != self.snapshot.target)
        return [item for item in others if item.replicas or item.pods]

    @property
    def fault(self) -> Fault | None:
        """What is wrong with the revision asked for."""
        spec, compiler = self.snapshot.spec, self.snapshot.compiler
        if self.snapshot.refusal is not None:
            return self.snapshot.refusal
        if self.current is not None:
            return revision_fault(self.current, spec.kind, spec.slug)
        return None if compiler is None else pod_fault(compiler.pod, spec.kind, spec.slug)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition without its times."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """All conditions, with the time of their last transition."""
    ready, progressing = _ready(facts), _progressing(facts)
    findings = [
        ready,
        progressing,
        *_stalled(ready, progressing),
        _database_reachable(facts.snapshot),
        _schema_ready(facts.snapshot),
        _scaling_active(facts),
        _scaling_limited(facts.decision),
        _scale_ignored(facts),
        _drains_in_time(facts),
        _options_in_effect(facts.snapshot),
        *_contested(facts.snapshot),
    ]
    return tuple(_dated(finding, facts.snapshot) for finding in findings)


def frozen(snapshot: Snapshot) -> bool:
    """Whether the mode forbids to change anything."""
    return snapshot.spec.scaling.mode in (ScalingMode.PAUSED, ScalingMode.DRY_RUN)


def _ready(facts: Facts) -> Finding:
    if facts.snapshot.deleting:
        message = _leaving(facts)
        return Finding(type=ConditionType.READY, status="False", reason=Reason.TERMINATING, message=message)
    fault = _owned_elsewhere(facts) or facts.snapshot.refusal or _database_fault(facts.snapshot)
    if fault is not None:
        return Finding(type=ConditionType.READY, status="False", reason=fault.reason, message=fault.message)
    if facts.current is None or not facts.current.proven:
        return _ready_unproven(facts)
    if facts.older:
        message = _replaced(facts, facts.current)
        return Finding(type=ConditionType.READY, status="False", reason=Reason.ROLLING_OUT, message=message)
    return _ready_proven(facts, facts.current)


def _leaving(facts: Facts) -> str:
    holders, pods = facts.snapshot.finalizers, sum(len(item.pods) for item in facts.revisions)
    held = f", held by {', '.join(holders)}" if holders else ""
    left = f"{pods} of its pods are left" if pods else "no pod is left"
    return f"the FlowWorker is being deleted{held}; {left}"


def _ready_unproven(facts: Facts) -> Finding:
    fault = facts.fault
    if fault is not None:
        return Finding(type=ConditionType.READY, status="False", reason=fault.reason, message=fault.message)
    status, reason, message = _progress(facts)
    truth: Truth = "Unknown" if status == "Unknown" else "False"
    return Finding(type=ConditionType.READY, status=truth, reason=reason, message=message)


def _ready_proven(facts: Facts, current: RevisionState) -> Finding:
    ready = sum(pod.ready for pod in current.live)
    fault = _trouble(facts, current)
    if fault is not None and ready == 0 and current.replicas > 0:
        return Finding(type=ConditionType.READY, status="False", reason=fault.reason, message=fault.message)
    if current.replicas == 0 and not current.live:
        reason, message = _without_workers(facts)
        return Finding(type=ConditionType.READY, status="True", reason=reason, message=message)
    message = f"{ready} of {current.replicas} workers are ready" if ready else "workers start, none is ready yet"
    remarks = [] if fault is None else [fault.message]
    text = "; ".join((message, *remarks, *_health(current.live)))
    return Finding(type=ConditionType.READY, status="True", reason=Reason.RUNNING, message=text)


def _health(live: Sequence[PodState]) -> Iterable[str]:
    """Remarks about workers that the database does not serve well, by their own reports."""
    reports = [(pod.name, pod.report) for pod in live if pod.report is not None]
    if names := [name for name, report in reports if report.results_wait]:
        yield f"results wait to be written by {_some(names)}; see their last errors and logs"
    if names := [name for name, report in reports if report.claims_wait]:
        yield f"the database answers no claim of {_some(names)}; see their last errors and logs"
    if names := [name for name, report in reports if report.doubts]:
        yield f"the outcome of claims of {_some(names)} is not known yet"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _without_workers(facts: Facts) -> tuple[Reason, str]:
    """Why a revision that is proven has no worker."""
    mode = facts.snapshot.spec.scaling.mode
    if frozen(facts.snapshot):
        return Reason.SUSPENDED, f"no worker runs, and in mode {mode} none is started"
    if facts.decision.desired > 0:
        return Reason.RUNNING, "workers start, none is ready yet"
    if mode is ScalingMode.EXTERNAL:
        return Reason.IDLE, "no worker runs, because spec.replicas asks for none"
    return Reason.IDLE, "no worker runs, because there is nothing to do"


def _trouble(facts: Facts, current: RevisionState) -> Fault | None:
    """What is wrong with the pods of a proven revision, known or not."""
    return facts.fault or _silent(current.live, facts.snapshot)


def _silent(live: Sequence[PodState], snapshot: Snapshot) -> Fault | None:
    """Pods whose node says nothing, else those that had time enough and are not ready for no reason that was found."""
    if names := [pod.name for pod in live if pod.cut_off]:
        message = f"Kubernetes does not hear from the node of {_some(names)}"
        return Fault(reason=Reason.NOT_READY, message=message)
    if not live or any(snapshot.at.wall - pod.created_at < START_TIME for pod in live):
        return None
    unready = [pod.name for pod in live if not pod.ready]
    if not unready:
        return None
    names = ", ".join(unready[:3])
    return Fault(reason=Reason.NOT_READY, message=f"not ready for no known reason: {names}; see their logs")


def _progressing(facts: Facts) -> Finding:
    status, reason, message = _progress(facts)
    return Finding(type=ConditionType.PROGRESSING, status=status, reason=reason, message=message)


def _progress(facts: Facts) -> tuple[Truth, Reason, str]:
    current = facts.current
    if facts.snapshot.deleting:
        return "True", Reason.TERMINATING, _leaving(facts)
    fault = _owned_elsewhere(facts) or facts.snapshot.refusal
    if fault is not None:
        return "False", fault.reason, fault.message
    if current is None and frozen(facts.snapshot):
        return "Unknown", Reason.SUSPENDED, f"mode {facts.snapshot.spec.scaling.mode}: nothing is started"
    if current is None:
        return _compile_progress(facts)
    if not current.proven:
        return _proof_progress(facts, current)
    if facts.older:
        return _replacement_progress(facts, current)
    return "True", Reason.COMPLETE, f"every worker runs revision {current.revision}"


def _compile_progress(facts: Facts) -> tuple[Truth, Reason, str]:
    snapshot, fault = facts.snapshot, facts.fault
    compiler, spec = snapshot.compiler, snapshot.spec
    if compiler is None or compiler.done:
        return "True", Reason.PROVING, _proving(facts)
    what = f"{spec.kind} {spec.slug!r}"
    why = "" if fault is None else f": {fault.message}"
    if not late(compiler.pod.created_at, snapshot):
        return "True", Reason.PROVING, f"waiting for pod {compiler.pod.name} to create {what}{why}"
    reason = Reason.DEADLINE_EXCEEDED if fault is None else fault.reason
    seconds = spec.rollout.progress_deadline_seconds
    return "False", reason, f"pod {compiler.pod.name} did not create {what} within {seconds} s{why}"


def _proof_progress(facts: Facts, current: RevisionState) -> tuple[Truth, Reason, str]:
    if frozen(facts.snapshot):
        # No proof is taken, so that a missing one says nothing about the revision, however long ago it began.
        mode = facts.snapshot.spec.scaling.mode
        return "Unknown", Reason.SUSPENDED, f"mode {mode}: whether revision {current.revision} works is not judged"
    if not overdue(current, facts.snapshot):
        return "True", Reason.PROVING, _proving(facts)
    seconds = facts.snapshot.spec.rollout.progress_deadline_seconds
    fault = facts.fault
    if fault is None:
        message = f"revision {current.revision} did not prove itself within {seconds} s; see the logs of its pod"
        return "False", Reason.DEADLINE_EXCEEDED, message
    return (
        "False",
        fault.reason,
        f"revision {current.revision} did not prove itself within {seconds} s: {fault.message}",
    )


def _proving(facts: Facts) -> str:
    fault = facts.fault
    waiting = f"waiting for the first pod of revision {facts.snapshot.target} to report"
    return waiting if fault is None else f"{waiting}: {fault.message}"


def _replacement_progress(facts: Facts, current: RevisionState) -> tuple[Truth, Reason, str]:
    fault = _stuck(facts.snapshot, current)
    if fault is None:
        return "True", Reason.ROLLING_OUT, _replaced(facts, current)
    seconds = facts.snapshot.spec.rollout.progress_deadline_seconds
    message = f"workers of revision {current.revision} did not start within {seconds} s: {fault.message}"
    return "False", fault.reason, message


def _stuck(snapshot: Snapshot, current: RevisionState) -> Fault | None:
    """What keeps pods of a proven revision from starting for longer than its proof might have taken.

    A pod whose worker was at work when last heard of may be not ready for a moment, whatever its age. Without a reading
    it is unknown what the workers reported.
    """
    if frozen(snapshot) or fresh(snapshot.database) is None:
        return None
    patience = timedelta(seconds=snapshot.spec.rollout.progress_deadline_seconds)
    late = [pod for pod in current.live if not _at_work(pod) and snapshot.at.wall - pod.created_at > patience]
    faults = (pod_fault(pod, snapshot.spec.kind, snapshot.spec.slug) for pod in late)
    return next((fault for fault in faults if fault), None) or _silent(late, snapshot)


def _at_work(pod: PodState) -> bool:
    return pod.ready or (pod.report is not None and pod.report.state in _AT_WORK)


def _replaced(facts: Facts, current: RevisionState) -> str:
    message = _left_to_replace(facts)
    fault = _trouble(facts, current)
    return message if fault is None else f"{message}; {fault.message}"


def _left_to_replace(facts: Facts) -> str:
    live = sum(len(item.live) for item in facts.older)
    stopping = sum(len(item.pods) for item in facts.older) - live
    if live:
        workers = "1 worker of an older revision is" if live == 1 else f"{live} workers of older revisions are"
        return f"{workers} still to be replaced by revision {facts.snapshot.target}"
    if stopping:
        workers = (
            "the last worker of an older revision is"
            if stopping == 1
            else (f"the last {stopping} workers of older revisions are")
        )
        return f"{workers} stopping; revision {facts.snapshot.target} runs"
    return f"older revisions are being scaled to zero; revision {facts.snapshot.target} runs"


def _stalled(ready: Finding, progressing: Finding) -> Iterable[Finding]:
    for finding in (progressing, ready):
        if finding.status == "False" and (finding is progressing or finding.reason in FATAL):
            yield Finding(type=ConditionType.STALLED, status="True", reason=finding.reason, message=finding.message)
            return


def _owned_elsewhere(facts: Facts) -> Fault | None:
    if facts.owned:
        return None
    return Fault(reason=Reason.OWNED_ELSEWHERE, message=contention(facts.snapshot.claim, facts.owner))


def _database_fault(snapshot: Snapshot) -> Fault | None:
    """A fault of the database that is certain: definite errors at once, a silent server after some seconds."""
    database = snapshot.database
    fault = database.fault
    hiccup = database.age is not None and database.age <= UNREACHABLE_AFTER
    if fault is not None and not (fault.reason is Reason.DATABASE_UNREACHABLE and hiccup):
        return fault
    return database.schema_fault


def _database_reachable(snapshot: Snapshot) -> Finding:
    fault = _database_fault(snapshot)
    kind = ConditionType.DATABASE_REACHABLE
    if fault is not None and fault is not snapshot.database.schema_fault:
        return Finding(type=kind, status="False", reason=fault.reason, message=fault.message)
    if snapshot.database.age is None and snapshot.database.schema_fault is None:
        return Finding(type=kind, status="Unknown", reason=Reason.UNKNOWN, message="the database is being asked")
    return Finding(type=kind, status="True", reason=Reason.REACHABLE, message="the database answers")


def _schema_ready(snapshot: Snapshot) -> Finding:
    database, kind = snapshot.database, ConditionType.SCHEMA_READY
    if database.schema_fault is not None:
        fault = database.schema_fault
        return Finding(type=kind, status="False", reason=fault.reason, message=fault.message)
    if database.age is None:
        return Finding(type=kind, status="Unknown", reason=Reason.UNKNOWN, message="the database has not been read")
    return Finding(type=kind, status="True", reason=Reason.SUPPORTED, message="the database has what is needed")


def _scaling_active(facts: Facts) -> Finding:
    kind, mode = ConditionType.SCALING_ACTIVE, facts.snapshot.spec.scaling.mode
    if facts.snapshot.deleting:
        message = "workers finish what they run, and none is started"
        return Finding(type=kind, status="False", reason=Reason.TERMINATING, message=message)
    if not facts.owned:
        message = "another FlowWorker runs the workers"
        return Finding(type=kind, status="False", reason=Reason.OWNED_ELSEWHERE, message=message)
    if frozen(facts.snapshot):
        reason = Reason.PAUSED if mode is ScalingMode.PAUSED else Reason.DRY_RUN
        return Finding(type=kind, status="False", reason=reason, message=f"mode {mode}: replicas are left alone")
    if mode is ScalingMode.EXTERNAL:
        return Finding(type=kind, status="True", reason=Reason.EXTERNAL, message="spec.replicas decides")
    if fresh(facts.snapshot.database) is None:
        message = "the amount of work is unknown, so the number of workers is kept"
        return Finding(type=kind, status="False", reason=Reason.UNKNOWN, message=message)
    return Finding(type=kind, status="True", reason=Reason.SCALING, message="the number of workers follows the work")


def _scaling_limited(decision: Decision) -> Finding:
    kind = ConditionType.SCALING_LIMITED
    if decision.limited is not None:
        return Finding(type=kind, status="True", reason=Reason.MAX_REPLICAS, message=decision.limited)
    return Finding(type=kind, status="False", reason=Reason.WITHIN_LIMITS, message="maxReplicas is not reached")


def _scale_ignored(facts: Facts) -> Finding:
    kind, spec = ConditionType.SCALE_IGNORED, facts.snapshot.spec
    mode, replicas = spec.scaling.mode, spec.replicas
    if facts.replicas_ignored and replicas != DEFAULT_REPLICAS:
        message = f"spec.replicas is {replicas}, but only mode External follows it and the mode is {mode}"
        return Finding(type=kind, status="True", reason=Reason.NOT_EXTERNAL, message=message)
    return Finding(type=kind, status="False", reason=Reason.NOTHING_IGNORED, message="spec.replicas is not ignored")


def _drains_in_time(facts: Facts) -> Finding:
    kind, longest = ConditionType.DRAINS_IN_TIME, facts.snapshot.database.longest_timeout
    if longest is None:
        message = "the timeouts of the tasks are not known yet"
        return Finding(type=kind, status="Unknown", reason=Reason.UNKNOWN, message=message)
    existing = None if facts.current is None else facts.current.grace
    grace = grace_seconds(facts.snapshot.spec, longest) if existing is None else existing
    if grace < longest:
        remedy = grace_remedy(facts.snapshot.spec, longest)
        message = f"pods are given {grace} s to stop, a task may take {longest} s; {remedy}"
        return Finding(type=kind, status="False", reason=Reason.GRACE_TOO_SHORT, message=message)
    message = "pods are given enough time to stop"
    return Finding(type=kind, status="True", reason=Reason.GRACE_SUFFICIENT, message=message)


def _options_in_effect(snapshot: Snapshot) -> Finding:
    """No fault, whatever it says: options may be tuned in the database."""
    kind, changes = ConditionType.OPTIONS_IN_EFFECT, snapshot.database.option_changes
    if snapshot.spec.kind == "queue":
        message = "a queue has its options from the code alone"
        return Finding(type=kind, status="True", reason=Reason.OPTIONS_MATCH, message=message)
    if changes is None:
        message = "no worker of this revision has said what options its code has"
        return Finding(type=kind, status="Unknown", reason=Reason.UNKNOWN, message=message)
    if not changes:
        message = "the options in the code are in force"
        return Finding(type=kind, status="True", reason=Reason.OPTIONS_MATCH, message=message)
    named, more = changes[:NAMED_OPTIONS], len(changes) - NAMED_OPTIONS
    words = "; ".join((*map(str, named), *([f"and {more} more"] if more > 0 else ())))
    message = f"the options in the database are in force: {words}; {REMEDY}"
    return Finding(type=kind, status="False", reason=Reason.OPTIONS_DIFFER, message=message)


def _contested(snapshot: Snapshot) -> Iterable[Finding]:
    kind = ConditionType.CONTESTED
    if snapshot.rival is not None:
        yield Finding(type=kind, status="True", reason=Reason.SECOND_OPERATOR, message=snapshot.rival)
    elif snapshot.contest is not None:
        yield Finding(type=kind, status="True", reason=Reason.UNDONE_BY_OTHERS, message=snapshot.contest)


def _dated(finding: Finding, snapshot: Snapshot) -> Condition:
    before = next((one for one in snapshot.status.conditions if one.type == finding.type), None)
    since = snapshot.at.wall.replace(microsecond=0)
    if before is not None and before.status == finding.status:
        since = before.last_transition_time
    return Condition(
        type=finding.type,
        status=finding.status,
        observed_generation=snapshot.generation,
        last_transition_time=since,
        reason=finding.reason,
        message=printable(finding.message[:LONGEST_MESSAGE]),
    )
