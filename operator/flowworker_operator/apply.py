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

from flowworker_operator.bounded import Allowance, Purse, Recent, spent
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
from flowworker_operator.database_writes import DatabaseWrites
from flowworker_operator.domain import plan as steps
from flowworker_operator.domain.announcements import budget_in_the_way
from flowworker_operator.domain.health import refusal_fault
from flowworker_operator.domain.naming import (
    ADOPTED_ANNOTATION,
    DELETION_COST_ANNOTATION,
    OWNER_ANNOTATION,
    PROVEN_ANNOTATION,
    base_name,
)
from flowworker_operator.domain.plan import Event, HeldBack, Plan, Step
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.gather import Design, orphaned, owned_by, owner_of
from flowworker_operator.gather_pods import annotation
from flowworker_operator.probe import Key
from flowworker_operator.refused_writes import RefusedWrites
from flowworker_operator.render.drift import difference
from flowworker_operator.store import Store, key_of

MARKS = Allowance(burst=3, per_second=1 / 60)
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
class Outcome:
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
    done: list[Step] = field(default_factory=list[Step])
    """What was changed, the status aside."""
    held_back: set[HeldBack] = field(default_factory=set[HeldBack])
    """What was put off, because there was much of it shortly before."""
    told: list[Event] = field(default_factory=list[Event])
    """Further news for the user."""


@dataclass(slots=True, kw_only=True)
class _Past:
    """What is remembered of the writes for one FlowWorker, as long as it is there."""

    uid: str
    refused: RefusedWrites
    contested: ContestedWrites
    settled: Recent[str, tuple[str, int]] = field(default_factory=lambda: Recent[str, tuple[str, int]](SETTLED))
    """Version and generation at which applying an object again changed nothing, by its uid."""
    marks: Recent[str, Purse] = field(default_factory=lambda: Recent[str, Purse](MARKED))
    """What is left of the allowance to mark a pod, by its uid."""
    in_the_way: str | None = None
    """Uid of another owner's budget of which there was an event."""


class Executor:
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

    async def carry_out(self, target: Target, plan: Plan) -> Outcome:
        """Apply a plan.

        Raises:
            ClusterError: the API server does not answer.
        """
        outcome = Outcome()
        if not self._may_write():
            outcome.superseded = True
            return outcome
        # Whatever needs a drain looks whether it is in force: the rest of the plan holds without. A right that is
        # missing comes by no waiting, and nothing could ever shrink: the user has to know.
        outcome.refusal = self._database_writes.drain(target.key, plan.drain, plan.release)
        finished = await self._all_steps(target, plan, outcome)
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

    async def _all_steps(self, target: Target, plan: Plan, outcome: Outcome) -> bool:
        """Do one step after the other; returns whether all were dealt with."""
        for step in _steps(plan):
            if not await self._guarded(target, step, outcome):
                return False
        return True

    async def _guarded(self, target: Target, step: Step, outcome: Outcome) -> bool:
        """Do one step; returns whether to go on."""
        if not self._may_write():
            outcome.superseded = True
            return False
        tried, past = self._identity(target, step), self._past(target)
        if (standing := past.refused.standing(tried)) is not None:
            outcome.refusal = outcome.refusal or standing
            return True
        slot, content = slot_of(step, _about(target, step)[1].name), content_of(step)
        if slot is not None and past.contested.must_wait(slot, content):
            await self._explain(target, step, slot)
            return True
        if isinstance(step, steps.Mark) and not self._may_mark(past, step):
            outcome.held_back.add("mark")
            return True
        try:
            if await self._step(target, step, outcome):
                outcome.done.append(step)
                if slot is not None:
                    past.contested.done(slot, content)
            past.refused.taken(tried)
        except (AlreadyExists, Conflict, NotFound) as error:
            outcome.conflict = True
            await self._look_again(target, step)
            logger.info("looking again", **_names(target), reason=error.message)
            return False
        except Refused as error:
            fault = refusal_fault(f"the API server refuses {_what(step)}", error.message)
            past.refused.refused(tried, fault)
            outcome.refusal = outcome.refusal or fault
        return True

    def _may_mark(self, past: _Past, step: steps.Mark) -> bool:
        """Whether a pod may be marked now; to take the mark off is always allowed."""
        if step.cost is None:
            return True
        left = spent(past.marks.get(step.uid), MARKS, self._clock())
        if left is not None:
            past.marks.set(step.uid, left)
        return left is not None

    async def _explain(self, target: Target, step: Step, slot: Slot) -> None:
        """Find out who undoes a step."""
        writes = self._past(target).contested
        if writes.unexplained(slot):
            resource, key = _about(target, step)
            live = await self._cluster.get(resource, key.namespace, key.name)
            writes.explain(slot, contested(resource, key.name, live, field_of(step)))

    def _identity(self, target: Target, step: Step) -> Hashable:
        """What a step writes and what the answer depends on: a change of any of it is tried at once."""
        resource, key = _about(target, step)
        live = self._store.get(resource, key)
        version = None if live is None else (live["metadata"]["uid"], live["metadata"].get("generation"))
        return target.flowworker["metadata"]["generation"], version, replace(step, reason="")

    async def _step(self, target: Target, step: Step, outcome: Outcome) -> bool:
        """Do one step; returns whether it changed anything."""
        match step:
            case steps.Mark() | steps.Compile() | steps.Remove():
                return await self._pod_step(target, step, outcome)
            case steps.Prove():
                await self._prove(target, step)
            case steps.Adopt():
                await self._adopt(target, step)
            case steps.Create():
                return await self._create(target, step, outcome)
            case steps.Repair():
                return await self._repair(target, step)
            case steps.Scale():
                await self._scale(target, step)
            case steps.Delete():
                await self._delete(target, step)
            case steps.Budget():
                return await self._budget(target, step, outcome)
            case steps.SetReplicas():
                await self._set_replicas(target, step)
            case _:
                assert_never(step)
        return True

    async def _pod_step(
        self, target: Target, step: steps.Mark | steps.Compile | steps.Remove, outcome: Outcome
    ) -> bool:
        match step:
            case steps.Mark():
                await self._mark(target, step)
            case steps.Compile():
                return await self._compile(target, step, outcome)
            case steps.Remove():
                await self._remove(target, step)
            case _:
                assert_never(step)
        return True

    async def _mark(self, target: Target, step: steps.Mark) -> None:
        patch = {"metadata": {"annotations": {DELETION_COST_ANNOTATION: step.cost}}}
        await self._kept(PODS, self._cluster.patch(PODS, target.key.namespace, step.pod, patch, uid=step.uid))
        _tell("marked" if step.cost is not None else "unmarked", target, step.pod, step.reason)

    async def _prove(self, target: Target, step: steps.Prove) -> None:
        patch = {"metadata": {"annotations": {PROVEN_ANNOTATION: "true"}}}
        namespace = target.key.namespace
        live = self._store.get(DEPLOYMENTS, Key(namespace=namespace, name=step.name))
        uid = None if live is None else live["metadata"]["uid"]
        await self._kept(DEPLOYMENTS, self._cluster.patch(DEPLOYMENTS, namespace, step.name, patch, uid=uid))
        _tell("proven", target, step.name, step.reason)

    async def _adopt(self, target: Target, step: steps.Adopt) -> None:
        owner = owner_of(target.flowworker)
        annotations = {OWNER_ANNOTATION: owner.uid, ADOPTED_ANNOTATION: step.owner}
        patch = {"metadata": {"annotations": annotations, "ownerReferences": [owner.reference()]}}
        namespace, version = target.key.namespace, step.resource_version
        written = self._cluster.patch(DEPLOYMENTS, namespace, step.name, patch, resource_version=version)
        await self._kept(DEPLOYMENTS, written)
        _tell("adopted", target, step.name, step.reason)

    async def _compile(self, target: Target, step: steps.Compile, outcome: Outcome) -> bool:
        manifest = target.design.rendering.compiler_pod()
        try:
            await self._kept(PODS, self._cluster.create(PODS, manifest))
        except AlreadyExists:
            namespace = target.key.namespace
            live = await self._cluster.get(PODS, namespace, step.pod)
            if live is not None and owned_by(live, target.uid):
                raise  # the watch has not brought it yet
            if live is not None and not _is_a_predecessors(live, target):
                what = f"pod {namespace}/{step.pod} exists and belongs to another owner"
                outcome.refusal = outcome.refusal or refusal_fault(what, "delete or rename it")
            return False
        _tell("compiling", target, step.pod, step.reason)
        return True

    async def _remove(self, target: Target, step: steps.Remove) -> None:
        namespace = target.key.namespace
        await self._cluster.delete(PODS, namespace, step.pod, uid=step.uid)
        _tell("removed", target, step.pod, step.reason)

    async def _create(self, target: Target, step: steps.Create, outcome: Outcome) -> bool:
        manifest = target.design.rendering.deployment(grace=step.grace, replicas=step.replicas)
        try:
            await self._kept(DEPLOYMENTS, self._cluster.create(DEPLOYMENTS, manifest))
        except AlreadyExists:
            outcome.refusal = outcome.refusal or await self._found(target, step)
            return False
        _tell("created", target, step.name, step.reason, replicas=step.replicas)
        return True

    async def _found(self, target: Target, step: steps.Create) -> Fault | None:
        """An existing Deployment: ours without labels, a deleted FlowWorker's on its way out, or another owner's."""
        namespace = target.key.namespace
        live = await self._cluster.get(DEPLOYMENTS, namespace, step.name)
        if live is None or _is_a_predecessors(live, target):
            return None
        if owned_by(live, target.uid):
            # With the grace it has: another one would replace its pods.
            await self._restore(target, live, live["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
            _tell("repaired", target, step.name, "somebody has taken its labels away")
            return None
        return refusal_fault(
            f"deployment {namespace}/{step.name} exists and belongs to somebody else", "delete or rename it"
        )

    async def _repair(self, target: Target, step: steps.Repair) -> bool:
        live = self._store.get(DEPLOYMENTS, Key(namespace=target.key.namespace, name=step.name))
        changed = live is not None and await self._restore(target, live, step.grace)
        if changed:
            _tell("repaired", target, step.name, step.reason)
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

    async def _scale(self, target: Target, step: steps.Scale) -> None:
        await self._kept(
            DEPLOYMENTS,
            self._cluster.patch(
                DEPLOYMENTS,
                target.key.namespace,
                step.name,
                {"spec": {"replicas": step.replicas}},
                resource_version=step.resource_version,
            ),
        )
        _tell("scaled", target, step.name, step.reason, replicas=step.replicas)

    async def _delete(self, target: Target, step: steps.Delete) -> None:
        namespace, version = target.key.namespace, step.resource_version
        await self._cluster.delete(DEPLOYMENTS, namespace, step.name, resource_version=version)
        known = self._store.get(DEPLOYMENTS, Key(namespace=namespace, name=step.name))
        if known is not None:
            self._store.remove(DEPLOYMENTS, known)
        _tell("deleted", target, step.name, step.reason)

    async def _budget(self, target: Target, step: steps.Budget, outcome: Outcome) -> bool:
        namespace, name = target.key.namespace, base_name(target.key.name)
        known = self._store.get(BUDGETS, Key(namespace=namespace, name=name))
        if step.action == "apply":
            changed = await self._apply_budget(target, known, outcome)
        else:
            changed = known is not None
            if known is not None:
                await self._cluster.delete(BUDGETS, namespace, name, uid=known["metadata"]["uid"])
                self._store.remove(BUDGETS, known)
        if changed:
            _tell(f"budget {step.action}", target, name, step.reason)
        return changed

    async def _apply_budget(self, target: Target, known: Object | None, outcome: Outcome) -> bool:
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
            outcome.told.append(budget_in_the_way(name))
        return False

    async def _set_replicas(self, target: Target, step: steps.SetReplicas) -> None:
        key, metadata = target.key, target.flowworker["metadata"]
        patch = {"spec": {"replicas": step.replicas}}
        version = metadata["resourceVersion"]
        written = self._cluster.patch(FLOWWORKERS, key.namespace, key.name, patch, resource_version=version)
        await self._kept(FLOWWORKERS, written)
        _tell("replicas set", target, key.name, step.reason, replicas=step.replicas)

    async def _status(self, target: Target, plan: Plan, outcome: Outcome) -> None:
        assert plan.status is not None
        # Our own write of spec.replicas has made a new version of what the plan was made from.
        latest = self._store.get(FLOWWORKERS, target.key) if plan.set_replicas is not None else target.flowworker
        outcome.conflict = latest is None or not await self.write_status(latest, plan.status)
        outcome.status_written = not outcome.conflict

    async def write_status(self, flowworker: Object, status: steps.FlowWorkerStatus) -> bool:
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

    async def _look_again(self, target: Target, step: Step) -> None:
        """Read what a step was about."""
        await self._refresh(*_about(target, step))

    async def _refresh(self, resource: Resource, key: Key) -> None:
        """Read one object, so that the next round does not wait for the watch."""
        live = await self._cluster.get(resource, key.namespace, key.name)
        known = self._store.get(resource, key)
        if live is not None:
            self._store.put(resource, live)
        elif known is not None:
            self._store.remove(resource, known)


def status_manifest(flowworker: Object, status: steps.FlowWorkerStatus) -> Object:
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


def _steps(plan: Plan) -> Iterator[Step]:
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


def _about(target: Target, step: Step) -> tuple[Resource, Key]:
    """The object that a step changes."""
    namespace = target.key.namespace
    match step:
        case steps.Mark() | steps.Compile() | steps.Remove():
            return PODS, Key(namespace=namespace, name=step.pod)
        case steps.Budget():
            return BUDGETS, Key(namespace=namespace, name=base_name(target.key.name))
        case steps.SetReplicas():
            return FLOWWORKERS, target.key
        case _:
            return DEPLOYMENTS, Key(namespace=namespace, name=step.name)


def _what(step: Step) -> str:
    match step:
        case steps.Mark():
            return f"to mark pod {step.pod}"
        case steps.Compile():
            return f"to create pod {step.pod}"
        case steps.Remove():
            return f"to delete pod {step.pod}"
        case steps.Budget():
            return f"to {step.action} the disruption budget"
        case steps.SetReplicas():
            return "to set spec.replicas"
        case _:
            return f"to {type(step).__name__.lower()} deployment {step.name}"


def _names(target: Target) -> dict[str, str]:
    return {"namespace": target.key.namespace, "flowworker": target.key.name}


def _tell(change: str, target: Target, name: str, reason: str, **more: Any) -> None:
    logger.info(change, **_names(target), object=name, reason=reason, **more)
