"""A plan carried out: one call after another, in the plan's order, each logged with its reason.

What goes wrong decides how it goes on. A conflict means that we decided on something old: look again, do nothing more.
A refusal is about one object: the rest of the plan still holds, the refusal goes into the next snapshot, and the same
write is tried ever more rarely. So is a write that others undo. Anything else, such as an API server that does not
answer, ends the round and is for the queue to try again.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import structlog

from flowworker_operator.bounded import RateLimit, Recent, TokenBucket, take_token
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import AlreadyExists, Conflict, NotFound, Refused
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS, Object, Resource
from flowworker_operator.contested_writes import (
    BY_POLICY,
    ContestedWrites,
    Slot,
    changed_by,
    content_of,
    contested,
    field_of,
    slot_of,
)
from flowworker_operator.database import Key
from flowworker_operator.database_writes import DatabaseWrites
from flowworker_operator.domain import plan as changes
from flowworker_operator.domain.events import budget_in_the_way
from flowworker_operator.domain.health import refusal_fault
from flowworker_operator.domain.naming import (
    ADOPTED_ANNOTATION,
    DELETION_COST_ANNOTATION,
    OWNER_ANNOTATION,
    PROVEN_ANNOTATION,
    base_name,
)
from flowworker_operator.domain.plan import Change, Event, HeldBack, Plan
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.gather import Design, orphaned, owned_by, owner_of
from flowworker_operator.gather_pods import annotation
from flowworker_operator.refused_writes import RefusedWrites
from flowworker_operator.render.drift import difference
from flowworker_operator.store import Store, key_of

MARKS = RateLimit(burst=3, per_second=1 / 60)
"""How often a pod is marked to go, and unmarked: its worker may report all the time that it has drained, or has not."""
MARKED = 2000
"""Pods of a FlowWorker whose allowance is remembered."""
SETTLED = 50
"""Objects of a FlowWorker of which it is remembered that applying them again changed nothing."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The FlowWorker that a plan is for."""

    flowworker: Object
    design: Design

    @property
    def key(self) -> Key:
        """Its namespace and name."""
        return key_of(self.flowworker)

    @property
    def uid(self) -> str:
        """Its uid."""
        return self.flowworker["metadata"]["uid"]


@dataclass(slots=True, kw_only=True)
class PlanResult:
    """How far a plan was carried out."""

    refusal: Fault | None = None
    """The first refusal of the API server."""
    contest: str | None = None
    """What others undo again and again, and who."""
    conflict: bool = False
    """The plan was made from something old, and was left at that point."""
    superseded: bool = False
    """Another process is the leader now; nothing was written since."""
    status_written: bool = False
    done: list[Change] = field(default_factory=list[Change])
    """What was changed, the status aside."""
    held_back: set[HeldBack] = field(default_factory=set[HeldBack])
    """What was put off, because there was much of it shortly before."""
    events: list[Event] = field(default_factory=list[Event])
    """Further events for the user."""


@dataclass(slots=True, kw_only=True)
class _Past:
    """What is remembered of the writes for one FlowWorker, as long as it is there."""

    uid: str
    refused: RefusedWrites
    contested: ContestedWrites
    settled: Recent[str, tuple[str, int]] = field(default_factory=lambda: Recent[str, tuple[str, int]](SETTLED))
    """Version and generation at which applying an object again changed nothing, by its uid."""
    marks: Recent[str, TokenBucket] = field(default_factory=lambda: Recent[str, TokenBucket](MARKED))
    """What is left of the allowance to mark a pod, by its uid."""
    in_the_way: str | None = None
    """Uid of another owner's budget of which there was an event."""


class PlanApplier:
    """Carries plans out while this process is the leader."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        database_writes: DatabaseWrites,
        may_write: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._database_writes = database_writes
        self._may_write = may_write
        self._clock = clock
        self._pasts: dict[Key, _Past] = {}

    async def carry_out(self, target: Target, plan: Plan) -> PlanResult:
        """Apply a plan.

        Raises:
            ClusterError: the API server does not answer.
        """
        outcome = PlanResult()
        if not self._may_write():
            outcome.superseded = True
            return outcome
        # Whatever needs a drain looks whether it is in force: the rest of the plan holds without. A right that is
        # missing comes by no waiting, and nothing could ever shrink: the user has to know.
        outcome.refusal = self._database_writes.drain(target.key, plan.drain, plan.end_drain)
        finished = await self._all_changes(target, plan, outcome)
        outcome.contest = self._past(target).contested.standing()
        if finished and plan.status is not None:
            await self._status(target, plan, outcome)
        return outcome

    def forget(self, key: Key) -> None:
        """A FlowWorker is gone, or another process leads."""
        self._pasts.pop(key, None)

    def _past(self, target: Target) -> _Past:
        past = self._pasts.get(target.key)
        if past is None or past.uid != target.uid:
            refused, contested = RefusedWrites(self._clock), ContestedWrites(self._clock)
            past = self._pasts[target.key] = _Past(uid=target.uid, refused=refused, contested=contested)
        return past

    async def _all_changes(self, target: Target, plan: Plan, outcome: PlanResult) -> bool:
        """Do one change after the other; returns whether all were dealt with."""
        for change in _changes(plan):
            if not await self._guarded(target, change, outcome):
                return False
        return True

    async def _guarded(self, target: Target, change: Change, outcome: PlanResult) -> bool:
        """Do one change; returns whether to go on."""
        if not self._may_write():
            outcome.superseded = True
            return False
        tried, past = self._identity(target, change), self._past(target)
        if (standing := past.refused.standing(tried)) is not None:
            outcome.refusal = outcome.refusal or standing
            return True
        slot, content = slot_of(change, _about(target, change)[1].name), content_of(change)
        if slot is not None and past.contested.must_wait(slot, content):
            await self._explain(target, change, slot)
            return True
        if isinstance(change, changes.Mark) and not self._may_mark(past, change):
            outcome.held_back.add("mark")
            return True
        try:
            if await self._change(target, change, outcome):
                outcome.done.append(change)
                if slot is not None:
                    past.contested.done(slot, content)
            past.refused.taken(tried)
        except (AlreadyExists, Conflict, NotFound) as error:
            outcome.conflict = True
            await self._look_again(target, change)
            logger.info("looking again", **_names(target), reason=error.message)
            return False
        except Refused as error:
            fault = refusal_fault(f"the API server refuses {_what(change)}", error.message)
            past.refused.refused(tried, fault)
            outcome.refusal = outcome.refusal or fault
        return True

    def _may_mark(self, past: _Past, change: changes.Mark) -> bool:
        """Whether a pod may be marked now; to take the mark off is always allowed."""
        if change.cost is None:
            return True
        left = take_token(past.marks.get(change.uid), MARKS, self._clock())
        if left is not None:
            past.marks.set(change.uid, left)
        return left is not None

    async def _explain(self, target: Target, change: Change, slot: Slot) -> None:
        """Find out who undoes a change."""
        writes = self._past(target).contested
        if writes.unexplained(slot):
            resource, key = _about(target, change)
            live = await self._cluster.get(resource, key.namespace, key.name)
            writes.explain(slot, contested(resource, key.name, live, field_of(change)))

    def _identity(self, target: Target, change: Change) -> Hashable:
        """What a change writes and what the answer depends on: a change of any of it is tried at once."""
        resource, key = _about(target, change)
        live = self._store.get(resource, key)
        version = None if live is None else (live["metadata"]["uid"], live["metadata"].get("generation"))
        return target.flowworker["metadata"]["generation"], version, replace(change, reason="")

    async def _change(self, target: Target, change: Change, outcome: PlanResult) -> bool:
        """Do one change; returns whether it changed anything."""
        match change:
            case changes.Mark() | changes.Compile() | changes.Remove():
                return await self._pod_change(target, change, outcome)
            case changes.Prove():
                await self._prove(target, change)
            case changes.Adopt():
                await self._adopt(target, change)
            case changes.Create():
                return await self._create(target, change, outcome)
            case changes.Repair():
                return await self._repair(target, change)
            case changes.Scale():
                await self._scale(target, change)
            case changes.Delete():
                await self._delete(target, change)
            case changes.Budget():
                return await self._budget(target, change, outcome)
            case changes.SetReplicas():
                await self._set_replicas(target, change)
            case _:
                assert_never(change)
        return True

    async def _pod_change(
        self, target: Target, change: changes.Mark | changes.Compile | changes.Remove, outcome: PlanResult
    ) -> bool:
        match change:
            case changes.Mark():
                await self._mark(target, change)
            case changes.Compile():
                return await self._compile(target, change, outcome)
            case changes.Remove():
                await self._remove(target, change)
            case _:
                assert_never(change)
        return True

    async def _mark(self, target: Target, change: changes.Mark) -> None:
        patch = {"metadata": {"annotations": {DELETION_COST_ANNOTATION: change.cost}}}
        await self._kept(PODS, self._cluster.patch(PODS, target.key.namespace, change.pod, patch, uid=change.uid))
        _log("marked" if change.cost is not None else "unmarked", target, change.pod, change.reason)

    async def _prove(self, target: Target, change: changes.Prove) -> None:
        patch = {"metadata": {"annotations": {PROVEN_ANNOTATION: "true"}}}
        namespace = target.key.namespace
        live = self._store.get(DEPLOYMENTS, Key(namespace=namespace, name=change.name))
        uid = None if live is None else live["metadata"]["uid"]
        await self._kept(DEPLOYMENTS, self._cluster.patch(DEPLOYMENTS, namespace, change.name, patch, uid=uid))
        _log("proven", target, change.name, change.reason)

    async def _adopt(self, target: Target, change: changes.Adopt) -> None:
        owner = owner_of(target.flowworker)
        annotations = {OWNER_ANNOTATION: owner.uid, ADOPTED_ANNOTATION: change.owner}
        patch = {"metadata": {"annotations": annotations, "ownerReferences": [owner.reference()]}}
        namespace, version = target.key.namespace, change.resource_version
        written = self._cluster.patch(DEPLOYMENTS, namespace, change.name, patch, resource_version=version)
        await self._kept(DEPLOYMENTS, written)
        _log("adopted", target, change.name, change.reason)

    async def _compile(self, target: Target, change: changes.Compile, outcome: PlanResult) -> bool:
        manifest = target.design.rendering.compiler_pod()
        try:
            await self._kept(PODS, self._cluster.create(PODS, manifest))
        except AlreadyExists:
            namespace = target.key.namespace
            live = await self._cluster.get(PODS, namespace, change.pod)
            if live is not None and owned_by(live, target.uid):
                raise  # the watch has not brought it yet
            if live is not None and not _is_a_predecessors(live, target):
                what = f"pod {namespace}/{change.pod} exists and belongs to another owner"
                outcome.refusal = outcome.refusal or refusal_fault(what, "delete or rename it")
            return False
        _log("compiling", target, change.pod, change.reason)
        return True

    async def _remove(self, target: Target, change: changes.Remove) -> None:
        namespace = target.key.namespace
        await self._cluster.delete(PODS, namespace, change.pod, uid=change.uid)
        _log("removed", target, change.pod, change.reason)

    async def _create(self, target: Target, change: changes.Create, outcome: PlanResult) -> bool:
        manifest = target.design.rendering.deployment(grace=change.grace, replicas=change.replicas)
        try:
            await self._kept(DEPLOYMENTS, self._cluster.create(DEPLOYMENTS, manifest))
        except AlreadyExists:
            outcome.refusal = outcome.refusal or await self._found(target, change)
            return False
        _log("created", target, change.name, change.reason, replicas=change.replicas)
        return True

    async def _found(self, target: Target, change: changes.Create) -> Fault | None:
        """An existing Deployment: ours without labels, a deleted FlowWorker's on its way out, or another owner's."""
        namespace = target.key.namespace
        live = await self._cluster.get(DEPLOYMENTS, namespace, change.name)
        if live is None or _is_a_predecessors(live, target):
            return None
        if owned_by(live, target.uid):
            # With the grace it has: another one would replace its pods.
            await self._restore(target, live, live["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
            _log("repaired", target, change.name, "its labels were taken away")
            return None
        return refusal_fault(
            f"deployment {namespace}/{change.name} exists and belongs to another owner", "delete or rename it"
        )

    async def _repair(self, target: Target, change: changes.Repair) -> bool:
        live = self._store.get(DEPLOYMENTS, Key(namespace=target.key.namespace, name=change.name))
        changed = live is not None and await self._restore(target, live, change.grace)
        if changed:
            _log("repaired", target, change.name, change.reason)
        return changed

    async def _restore(self, target: Target, live: Object, grace: int) -> bool:
        """Apply the rendered manifest to an existing Deployment; returns whether that changed anything."""
        adopted = annotation(live, ADOPTED_ANNOTATION)
        manifest = target.design.rendering.deployment(grace=grace, adopted_from=adopted)
        return await self._reapplied(target, DEPLOYMENTS, live, manifest)

    async def _reapplied(self, target: Target, resource: Resource, live: Object, manifest: Object) -> bool:
        """Apply to an existing object without ever creating it anew; returns whether it changed.

        A webhook may change back what we apply before it is stored. Then every look finds a difference and no apply
        mends it: once is enough for each version of the object and each generation of the FlowWorker.
        """
        metadata, generation = live["metadata"], target.flowworker["metadata"]["generation"]
        past = self._past(target)
        slot: Slot = ("repair", resource.plural, metadata["name"])
        path = difference(manifest, {**live, "apiVersion": resource.api_version, "kind": resource.kind})
        if past.settled.get(metadata["uid"]) == (metadata["resourceVersion"], generation):
            past.contested.futile(slot, generation, changed_by(BY_POLICY, resource, metadata["name"], path))
            return False
        if past.contested.must_wait(slot, generation):
            if past.contested.unexplained(slot):
                full = await self._cluster.get(resource, target.key.namespace, metadata["name"])
                past.contested.explain(slot, contested(resource, metadata["name"], full, path))
            return False
        manifest["metadata"] |= {name: metadata[name] for name in ("uid", "resourceVersion")}
        answer = await self._cluster.apply(resource, manifest)
        self._store.put(resource, answer)
        if answer["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            past.contested.done(slot, generation)
            return True
        past.settled.set(metadata["uid"], (metadata["resourceVersion"], generation))
        logger.info("applied again, which changed nothing", **_names(target), object=metadata["name"])
        return False

    async def _scale(self, target: Target, change: changes.Scale) -> None:
        await self._kept(
            DEPLOYMENTS,
            self._cluster.patch(
                DEPLOYMENTS,
                target.key.namespace,
                change.name,
                {"spec": {"replicas": change.replicas}},
                resource_version=change.resource_version,
            ),
        )
        _log("scaled", target, change.name, change.reason, replicas=change.replicas)

    async def _delete(self, target: Target, change: changes.Delete) -> None:
        namespace, version = target.key.namespace, change.resource_version
        await self._cluster.delete(DEPLOYMENTS, namespace, change.name, resource_version=version)
        known = self._store.get(DEPLOYMENTS, Key(namespace=namespace, name=change.name))
        if known is not None:
            self._store.remove(DEPLOYMENTS, known)
        _log("deleted", target, change.name, change.reason)

    async def _budget(self, target: Target, change: changes.Budget, outcome: PlanResult) -> bool:
        namespace, name = target.key.namespace, base_name(target.key.name)
        known = self._store.get(BUDGETS, Key(namespace=namespace, name=name))
        if change.action == "apply":
            changed = await self._apply_budget(target, known, outcome)
        else:
            changed = known is not None
            if known is not None:
                await self._cluster.delete(BUDGETS, namespace, name, uid=known["metadata"]["uid"])
                self._store.remove(BUDGETS, known)
        if changed:
            _log(f"budget {change.action}", target, name, change.reason)
        return changed

    async def _apply_budget(self, target: Target, known: Object | None, outcome: PlanResult) -> bool:
        """Create or repair the disruption budget; another owner's budget of the same name is left alone."""
        manifest = target.design.rendering.disruption_budget()
        name = manifest["metadata"]["name"]
        live = known or await self._cluster.get(BUDGETS, target.key.namespace, name)
        if live is None:
            await self._kept(BUDGETS, self._cluster.create(BUDGETS, manifest))
            return True
        if owned_by(live, target.uid) or orphaned(live, target.flowworker):
            return await self._reapplied(target, BUDGETS, live, manifest)
        uid, past = live["metadata"]["uid"], self._past(target)
        if not _is_a_predecessors(live, target) and past.in_the_way != uid:
            past.in_the_way = uid
            outcome.events.append(budget_in_the_way(name))
        return False

    async def _set_replicas(self, target: Target, change: changes.SetReplicas) -> None:
        key, metadata = target.key, target.flowworker["metadata"]
        patch = {"spec": {"replicas": change.replicas}}
        version = metadata["resourceVersion"]
        written = self._cluster.patch(FLOWWORKERS, key.namespace, key.name, patch, resource_version=version)
        await self._kept(FLOWWORKERS, written)
        _log("replicas set", target, key.name, change.reason, replicas=change.replicas)

    async def _status(self, target: Target, plan: Plan, outcome: PlanResult) -> None:
        assert plan.status is not None
        # Our own write of spec.replicas has made a new version of what the plan was made from.
        latest = self._store.get(FLOWWORKERS, target.key) if plan.set_replicas is not None else target.flowworker
        outcome.conflict = latest is None or not await self.write_status(latest, plan.status)
        outcome.status_written = not outcome.conflict

    async def write_status(self, flowworker: Object, status: changes.FlowWorkerStatus) -> bool:
        """Write the status of a FlowWorker that has not changed since; returns whether it was written."""
        if not self._may_write():
            return False
        try:
            await self._kept(FLOWWORKERS, self._cluster.apply_status(FLOWWORKERS, status_manifest(flowworker, status)))
        except (Conflict, NotFound):
            await self._refresh(FLOWWORKERS, key_of(flowworker))
            return False
        return True

    async def _kept(self, resource: Resource, call: Awaitable[Object]) -> None:
        self._store.put(resource, await call)

    async def _look_again(self, target: Target, change: Change) -> None:
        """Read what a change was about."""
        await self._refresh(*_about(target, change))

    async def _refresh(self, resource: Resource, key: Key) -> None:
        """Read one object, so that the next round does not wait for the watch."""
        live = await self._cluster.get(resource, key.namespace, key.name)
        known = self._store.get(resource, key)
        if live is not None:
            self._store.put(resource, live)
        elif known is not None:
            self._store.remove(resource, known)


def status_manifest(flowworker: Object, status: changes.FlowWorkerStatus) -> Object:
    """The status for server-side apply, for exactly the version of the FlowWorker that was looked at."""
    metadata = {name: flowworker["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    content: dict[str, Any] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "apiVersion": flowworker["apiVersion"],
        "kind": flowworker["kind"],
        "metadata": metadata,
        "status": content,
    }


def _is_a_predecessors(live: Object, target: Target) -> bool:
    """Whether an object belongs to an earlier FlowWorker of this name, and goes as that has gone."""
    owners: Iterable[Object] = live["metadata"].get("ownerReferences", ())
    return any(one["kind"] == target.flowworker["kind"] and one["uid"] != target.uid for one in owners)


def _changes(plan: Plan) -> Iterator[Change]:
    yield from plan.mark
    yield from plan.prove
    yield from plan.compile
    yield from plan.adopt
    yield from plan.create
    yield from plan.remove
    yield from plan.scale
    yield from plan.delete
    # After the replicas: a manager that fights about a field must not keep work from its workers.
    yield from plan.repair
    if plan.budget is not None:
        yield plan.budget
    if plan.set_replicas is not None:
        yield plan.set_replicas


def _about(target: Target, change: Change) -> tuple[Resource, Key]:
    """The object that a change changes."""
    namespace = target.key.namespace
    match change:
        case changes.Mark() | changes.Compile() | changes.Remove():
            return PODS, Key(namespace=namespace, name=change.pod)
        case changes.Budget():
            return BUDGETS, Key(namespace=namespace, name=base_name(target.key.name))
        case changes.SetReplicas():
            return FLOWWORKERS, target.key
        case _:
            return DEPLOYMENTS, Key(namespace=namespace, name=change.name)


def _what(change: Change) -> str:
    match change:
        case changes.Mark():
            return f"to mark pod {change.pod}"
        case changes.Compile():
            return f"to create pod {change.pod}"
        case changes.Remove():
            return f"to delete pod {change.pod}"
        case changes.Budget():
            return f"to {change.action} the disruption budget"
        case changes.SetReplicas():
            return "to set spec.replicas"
        case _:
            return f"to {type(change).__name__.lower()} deployment {change.name}"


def _names(target: Target) -> dict[str, str]:
    return {"namespace": target.key.namespace, "flowworker": target.key.name}


def _log(change: str, target: Target, name: str, reason: str, **more: Any) -> None:
    logger.info(change, **_names(target), object=name, reason=reason, **more)
