"""From a snapshot to a plan: what one FlowWorker needs now. The same snapshot always gives the same plan."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import ScalingMode
from flowworker_operator.domain import plan as changes
from flowworker_operator.domain.conditions import Facts, frozen
from flowworker_operator.domain.drain import DRAIN_SECONDS, Resize, departing, resize
from flowworker_operator.domain.events import events_of
from flowworker_operator.domain.grace import drain_seconds, grace_seconds, lacks_grace, new_grace_seconds
from flowworker_operator.domain.naming import DELETION_COST, ORPHANING, compiler_name, deployment_name
from flowworker_operator.domain.ownership import owner
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.reporting import due, is_notable, status_of
from flowworker_operator.domain.rollout import PROOF_REPLICAS, Allocation, allocate, compiled, established, proof
from flowworker_operator.domain.scaling import Decision, ScalingResult, Situation, decide, fresh
from flowworker_operator.domain.snapshot import RevisionState, Snapshot

AGAIN_AFTER = timedelta(seconds=10)
"""Least age of a pod that could not create a flow or queue, such as an evicted one, before it is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resized:
    revision: RevisionState
    resize: Resize


def make_plan(snapshot: Snapshot) -> Plan:
    """Everything to change for one FlowWorker now."""
    outcome = _decide(snapshot)
    facts = _facts(snapshot, outcome)
    plan = _changing(facts)
    status = status_of(facts)
    shown = due(snapshot, status)
    before = outcome.before if facts.owned else facts.decision.desired
    return replace(
        plan,
        set_replicas=_set_replicas(snapshot, outcome),
        status=status if shown else None,
        events=events_of(snapshot, status, before, shown=shown),
        held_back=tuple(_held_back(facts, shown=shown or not is_notable(snapshot, status))),
        memory=outcome.memory,
    )


def _held_back(facts: Facts, *, shown: bool) -> Iterable[changes.HeldBack]:
    if facts.decision.unsteady:
        yield "replicas"
    if not shown:
        yield "status"


def _changing(facts: Facts) -> Plan:
    """What to change, status and number aside."""
    snapshot = facts.snapshot
    if frozen(snapshot):
        return _kept_draining(facts)
    if not snapshot.deleting:
        return _changes(facts)
    # A user who deletes with `--cascade=orphan` wants the workers to go on.
    return Plan() if ORPHANING in snapshot.finalizers else _departure(facts)


def _decide(snapshot: Snapshot) -> ScalingResult:
    shown = snapshot.status.scaling
    situation = Situation(
        running=established(snapshot.revisions),
        shown=None if shown is None else shown.desired,
        shown_mode=None if shown is None else shown.mode,
    )
    return decide(
        snapshot.spec,
        snapshot.database,
        situation,
        snapshot.memory,
        replicas_set=snapshot.replicas_set,
        tick=snapshot.at.tick,
    )


def _facts(snapshot: Snapshot, outcome: ScalingResult) -> Facts:
    decision, first = outcome.decision, owner(snapshot.claim, snapshot.rivals)
    if first != snapshot.claim:
        message = f"{first.namespace}/{first.name} runs {first.work}"
        decision = Decision(desired=0, reason=Reason.OWNED_ELSEWHERE, message=message)
    if snapshot.deleting:
        message = "the FlowWorker is being deleted"
        decision = Decision(desired=0, reason=Reason.TERMINATING, message=message)
    revisions = snapshot.revisions if frozen(snapshot) else tuple(_with_proof(snapshot))
    return Facts(
        snapshot=snapshot,
        decision=decision,
        owner=first,
        revisions=revisions,
        replicas_ignored=snapshot.spec.scaling.mode is not ScalingMode.EXTERNAL and outcome.seed is None,
    )


def _with_proof(snapshot: Snapshot) -> Iterable[RevisionState]:
    spec = snapshot.spec
    for revision in snapshot.revisions:
        proven = revision.revision == snapshot.target and proof(revision, spec.kind, spec.slug) is not None
        yield replace(revision, proven=revision.proven or proven)


def _kept_draining(facts: Facts) -> Plan:
    """All that is done while nothing may be changed: pods that were asked to drain before are kept from claiming."""
    resized = [_Resized(revision=item, resize=Resize(drain=departing(item))) for item in facts.revisions if item.proven]
    return Plan(drain=tuple(_drains(resized, "it was asked to go before")))


def _departure(facts: Facts) -> Plan:
    """Let the workers of a FlowWorker that others hold back finish what they run, and go; make nothing any more."""
    allocation = _allocation(facts)
    resized = [_Resized(revision=item, resize=_resize(item, allocation, facts)) for item in facts.revisions]
    why = facts.decision.message
    return Plan(drain=tuple(_drains(resized, why)), mark=tuple(_marks(resized)), scale=tuple(_scalings(resized, why)))


def _changes(facts: Facts) -> Plan:
    snapshot, decision = facts.snapshot, facts.decision
    allocation = _allocation(facts)
    resized = [_Resized(revision=item, resize=_resize(item, allocation, facts)) for item in facts.revisions]
    why = f"{decision.desired} wanted: {decision.message}"
    return Plan(
        drain=tuple(_drains(resized, why)),
        end_drain=tuple(_drain_ends(resized, why)),
        mark=tuple(_marks(resized)),
        prove=tuple(_proofs(snapshot, facts.revisions)),
        compile=tuple(_compilations(facts)),
        adopt=tuple(_adoptions(snapshot)),
        create=tuple(_creations(facts)),
        remove=tuple(_removals(facts)),
        repair=tuple(_repairs(snapshot)),
        scale=tuple(_scalings(resized, why)),
        delete=tuple(_deletions(allocation)),
        budget=_budget(facts),
    )


def _allocation(facts: Facts) -> Allocation:
    if not facts.owned or facts.snapshot.deleting:
        return Allocation(replicas={item.name: 0 for item in facts.revisions})
    return allocate(facts.revisions, facts.snapshot.target, facts.decision.desired)


def _resize(revision: RevisionState, allocation: Allocation, facts: Facts) -> Resize:
    wanted = allocation.replicas[revision.name]
    if not revision.proven:
        # Its pod never did any work worth waiting for, or is superseded: SIGTERM is enough.
        return Resize(replicas=wanted if wanted != revision.replicas else None)
    database = facts.snapshot.database
    patience = drain_seconds(facts.snapshot.spec, database.longest_timeout)
    return resize(revision, wanted, drain_timeout=patience, informed=fresh(database) is not None)


def _drains(resized: Sequence[_Resized], why: str) -> Iterable[changes.Drain]:
    for item in resized:
        for pod in item.resize.drain:
            yield changes.Drain(pod=pod.name, uid=pod.uid, seconds=DRAIN_SECONDS, reason=why)


def _drain_ends(resized: Sequence[_Resized], why: str) -> Iterable[changes.EndDrain]:
    for item in resized:
        for pod in item.resize.resume:
            yield changes.EndDrain(pod=pod.name, uid=pod.uid, reason=why)


def _marks(resized: Sequence[_Resized]) -> Iterable[changes.Mark]:
    for item in resized:
        for pod in item.resize.mark:
            yield changes.Mark(pod=pod.name, uid=pod.uid, cost=DELETION_COST, reason="it has drained and goes next")
        for pod in item.resize.unmark:
            yield changes.Mark(pod=pod.name, uid=pod.uid, cost=None, reason="it stays")


def _proofs(snapshot: Snapshot, revisions: Sequence[RevisionState]) -> Iterable[changes.Prove]:
    for before, after in zip(snapshot.revisions, revisions, strict=True):
        if after.proven and not before.proven:
            yield changes.Prove(name=after.name, reason=f"a pod of revision {after.revision} is ready and reports")


def _compilations(facts: Facts) -> Iterable[changes.Compile]:
    snapshot = facts.snapshot
    missing = snapshot.current is None and snapshot.compiler is None and not snapshot.orphans
    if facts.owned and missing and not compiled(snapshot):
        name = compiler_name(snapshot.claim.name, snapshot.target)
        reason = f"it creates what is missing of {snapshot.spec.kind} {snapshot.spec.slug!r}, as the owner"
        yield changes.Compile(pod=name, revision=snapshot.target, reason=reason)


def _removals(facts: Facts) -> Iterable[changes.Remove]:
    """Pods that have created their flow or queue, that are superseded, or that have failed for good."""
    snapshot = facts.snapshot
    for one in snapshot.compilers:
        needed = facts.owned and snapshot.current is None and one.revision == snapshot.target
        failed = one.pod.ending and not one.done and snapshot.at.wall - one.pod.created_at > AGAIN_AFTER
        if not one.leaving and (failed or not needed):
            yield changes.Remove(pod=one.pod.name, uid=one.pod.uid, reason="it is not needed any more")


def _adoptions(snapshot: Snapshot) -> Iterable[changes.Adopt]:
    for orphan in snapshot.orphans:
        reason = "a FlowWorker of this name was deleted and has left it behind"
        version, owner = orphan.resource_version, orphan.owner
        yield changes.Adopt(name=orphan.name, resource_version=version, owner=owner, reason=reason)


def _creations(facts: Facts) -> Iterable[changes.Create]:
    snapshot = facts.snapshot
    left_behind = deployment_name(snapshot.claim.name, snapshot.target) in {one.name for one in snapshot.orphans}
    if facts.owned and snapshot.current is None and compiled(snapshot) and not left_behind:
        yield changes.Create(
            name=deployment_name(snapshot.claim.name, snapshot.target),
            revision=snapshot.target,
            replicas=PROOF_REPLICAS,
            grace=new_grace_seconds(snapshot.spec, snapshot.database.longest_timeout, _graces(snapshot)),
            reason=f"revision {snapshot.target} has to prove itself",
        )


def _graces(snapshot: Snapshot) -> Iterable[int]:
    return (item.grace for item in snapshot.revisions if item.grace is not None)


def _repairs(snapshot: Snapshot) -> Iterable[changes.Repair]:
    current = snapshot.current
    if current is None:
        return
    wanted = grace_seconds(snapshot.spec, snapshot.database.longest_timeout)
    raised = _may_be_raised(current, snapshot)
    if current.drifted:
        grace = wanted if raised or current.grace is None else current.grace
        yield changes.Repair(name=current.name, grace=grace, reason="it was changed by another client")
    elif raised:
        yield changes.Repair(name=current.name, grace=wanted, reason=f"its tasks need {wanted} s to stop")


def _may_be_raised(current: RevisionState, snapshot: Snapshot) -> bool:
    """Whether a revision lacks grace and can be given it: without pods, for Kubernetes would replace them undrained."""
    if current.grace is None or current.replicas or current.live:
        return False
    return lacks_grace(snapshot.spec, snapshot.database.longest_timeout, current.grace)


def _scalings(resized: Sequence[_Resized], why: str) -> Iterable[changes.Scale]:
    for item in resized:
        count, revision = item.resize.replicas, item.revision
        if count is not None:
            version = revision.resource_version
            yield changes.Scale(name=revision.name, resource_version=version, replicas=count, reason=why)


def _deletions(allocation: Allocation) -> Iterable[changes.Delete]:
    for revision in allocation.obsolete:
        version = revision.resource_version
        yield changes.Delete(name=revision.name, resource_version=version, reason="a newer revision took over")


def _budget(facts: Facts) -> changes.Budget | None:
    budget = facts.snapshot.budget
    if not budget.known:
        return None
    if facts.snapshot.spec.scaling.max_replicas > 1 and facts.owned:
        reason = "it was changed by another client" if budget.exists else "several workers may run"
        return changes.Budget(action="apply", reason=reason) if budget.drifted or not budget.exists else None
    return changes.Budget(action="delete", reason="at most one worker runs") if budget.exists else None


def _set_replicas(snapshot: Snapshot, outcome: ScalingResult) -> changes.SetReplicas | None:
    if outcome.seed is None or snapshot.deleting:
        return None
    reason = f"the mode is now {snapshot.spec.scaling.mode}"
    return changes.SetReplicas(replicas=outcome.seed, reason=reason)
