"""From what was observed to the snapshot that decisions are made from. Pure: everything comes in as an argument."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from flowworker_operator.api.conditions import ConditionType, Reason
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.api.status import FlowWorkerStatus
from flowworker_operator.api.template import LARGEST_TEMPLATE
from flowworker_operator.bounded import TokenBucket
from flowworker_operator.database import Reading
from flowworker_operator.domain.memory import Memory
from flowworker_operator.domain.naming import (
    ADOPTED_ANNOTATION,
    MANAGED_BY_LABEL,
    MANAGER,
    NAME_LABEL,
    OWNER_ANNOTATION,
    PROVEN_ANNOTATION,
    REVISION_LABEL,
    REVISION_LENGTH,
    base_name,
    deployment_name,
)
from flowworker_operator.domain.snapshot import (
    BudgetState,
    Claim,
    CompilerState,
    DatabaseState,
    Fault,
    Moment,
    Obstacle,
    Orphan,
    RevisionState,
    Snapshot,
)
from flowworker_operator.gather_pods import (
    Object,
    annotation,
    compiled_revision,
    condition,
    has_compiled,
    pod_state,
    timestamp,
)
from flowworker_operator.render.drift import drifted
from flowworker_operator.render.pod import volume_origins
from flowworker_operator.render.rendering import Owner, Rendering, render
from flowworker_operator.store import TOO_LARGE

_NOTHING: Object = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What the spec of one generation says and renders to."""

    spec: FlowWorkerSpec
    rendering: Rendering
    volumes: Mapping[str, str]
    """Where the content of volumes comes from, by their names."""

    @property
    def target(self) -> str:
        """The revision asked for."""
        return self.rendering.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What this process remembers of a FlowWorker; a new process starts without."""

    memory: Memory | None = None
    status_written_at: float | None = None
    status_writes: TokenBucket | None = None
    refusal: Fault | None = None
    contest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything known about one FlowWorker at one moment."""

    at: Moment
    flowworker: Object
    design: Design
    deployments: Sequence[Object]
    """All that carry its name; those of others are sorted out here. So it is with the rest."""
    pods: Sequence[Object]
    budgets: Sequence[Object] | None
    """None where they cannot be read."""
    reading: Reading | None
    fault: Fault | None
    """Why the database could not be read the last time."""
    rivals: Sequence[Claim]
    history: History
    rival: str | None = None
    """Which other installation of the operator would serve it, too."""
    obstacles: Mapping[str, Obstacle] = field(default_factory=dict[str, Obstacle])
    """What events say of pods whose containers are not created, by pod uid."""


def design(flowworker: Object) -> Design | Fault:
    """What a FlowWorker asks for, or why that cannot be understood."""
    template = flowworker["spec"].get("template", _NOTHING)
    if TOO_LARGE in template:
        size = template[TOO_LARGE]
        much = "is nested too deep to be measured" if size is None else f"has {size} bytes as JSON"
        message = f"spec.template: {much}, and at most {LARGEST_TEMPLATE} bytes are allowed"
        return Fault(reason=Reason.INVALID_SPEC, message=message)
    try:
        spec = FlowWorkerSpec.model_validate(flowworker["spec"])
    except ValidationError as error:
        return Fault(reason=Reason.INVALID_SPEC, message="; ".join(map(_complaint, error.errors())))
    return Design(spec=spec, rendering=render(owner_of(flowworker), spec), volumes=volume_origins(spec))


def gather(observed: Observed) -> Snapshot:
    """The snapshot of one FlowWorker."""
    metadata, spec = observed.flowworker["metadata"], observed.design.spec
    return Snapshot(
        at=observed.at,
        claim=claim_of(observed.flowworker),
        generation=metadata["generation"],
        spec=spec,
        replicas_set=replicas_set(observed.flowworker),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        refusal=observed.history.refusal,
        contest=observed.history.contest,
        rival=observed.rival,
        status=status_of(observed.flowworker),
        status_written_at=observed.history.status_written_at,
        status_writes=observed.history.status_writes,
        database=database_state(observed.reading, observed.fault, observed.at.tick, observed.design.target),
        rivals=tuple(observed.rivals),
        target=observed.design.target,
        revisions=tuple(_revisions(observed)),
        orphans=tuple(_orphans(observed)),
        compilers=tuple(_compilers(observed)),
        budget=_budget(observed),
        memory=observed.history.memory,
    )


def claim_of(flowworker: Object) -> Claim:
    """Who a FlowWorker is."""
    metadata, spec = flowworker["metadata"], flowworker.get("spec", _NOTHING)
    kind = "queue" if "queue" in spec else "flow"
    return Claim(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=timestamp(metadata["creationTimestamp"]),
        kind=kind,
        slug=spec.get(kind, ""),
    )


def status_of(flowworker: Object) -> FlowWorkerStatus:
    """The status as last written; empty when it is not one that we would write.

    Without the conditions of others and in our order, which the API server does not keep, and without the question of
    another installation: a difference would be a reason to write.
    """
    try:
        status = FlowWorkerStatus.model_validate(flowworker.get("status", _NOTHING))
    except ValidationError:
        return FlowWorkerStatus()
    found = {one.type: one for one in status.conditions}
    ours = tuple(found[kind] for kind in ConditionType if kind in found)
    return status.model_copy(update={"conditions": ours, "challenged_by": None})


def database_state(reading: Reading | None, fault: Fault | None, tick: float, target: str) -> DatabaseState:
    """The database, for a revision; what an unsupported schema gives is no demand to decide on."""
    if reading is None:
        return DatabaseState(fault=fault)
    if reading.schema_fault is not None:
        return DatabaseState(fault=fault, schema_fault=reading.schema_fault)
    changes = reading.option_changes.get(target)
    return DatabaseState(
        demand=reading.demand,
        age=max(0.0, tick - reading.tick),
        fault=fault,
        longest_timeout=reading.longest_timeout,
        option_changes=None if changes is None else tuple(changes),
    )


def replicas_set(flowworker: Object) -> bool:
    """Whether a client other than this operator has written `spec.replicas`; the schema's default does not count.

    Who creates or replaces a whole resource is recorded as the writer of defaults too. Such an entry counts only when
    the number is not the default; one that names the number without the rest of the spec always counts.
    """
    default = flowworker["spec"].get("replicas", 1) == 1
    return any(_wrote_replicas(entry, default=default) for entry in flowworker["metadata"].get("managedFields", ()))


def owned_by(item: Object, uid: str) -> bool:
    """Whether an object belongs to the FlowWorker of this uid, even when its owner reference was removed.

    Then its annotation says so, which copies keep and others can write: it counts for nothing on an object that another
    owner has, or that is managed by another.
    """
    metadata = item["metadata"]
    owners: Sequence[Object] = metadata.get("ownerReferences", ())
    if any(one.get("controller") for one in owners):
        return [one["uid"] for one in owners if one.get("controller")] == [uid]
    manager = metadata.get("labels", _NOTHING).get(MANAGED_BY_LABEL, MANAGER)
    return manager == MANAGER and all(one["uid"] == uid for one in owners) and annotation(item, OWNER_ANNOTATION) == uid


def orphaned(item: Object, flowworker: Object) -> bool:
    """Whether an object was made for an earlier FlowWorker of this name, which was deleted without it.

    Its name is for the caller to compare.
    """
    metadata = item["metadata"]
    labels: Mapping[str, str] = metadata.get("labels", _NOTHING)
    ours = (labels.get(MANAGED_BY_LABEL), labels.get(NAME_LABEL)) == (MANAGER, flowworker["metadata"]["name"])
    free = not metadata.get("ownerReferences") and "deletionTimestamp" not in metadata
    return ours and free and not owned_by(item, flowworker["metadata"]["uid"])


def owner_of(flowworker: Object) -> Owner:
    """The FlowWorker as the owner of what is rendered for it."""
    metadata = flowworker["metadata"]
    return Owner(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _wrote_replicas(entry: Mapping[str, Any], *, default: bool) -> bool:
    fields = entry.get("fieldsV1", _NOTHING).get("f:spec", _NOTHING)
    if entry.get("manager") == MANAGER or "f:replicas" not in fields:
        return False
    whole = entry.get("operation") == "Update" and "f:handler" in fields
    return not (whole and default)


def _compilers(observed: Observed) -> Iterable[CompilerState]:
    for pod in observed.pods:
        revision = compiled_revision(pod)
        if revision is not None and owned_by(pod, observed.flowworker["metadata"]["uid"]):
            yield CompilerState(
                revision=revision,
                pod=pod_state(pod, _NOTHING, _NOTHING, observed.obstacles),
                done=has_compiled(pod),
                leaving="deletionTimestamp" in pod["metadata"],
            )


def _revisions(observed: Observed) -> Iterable[RevisionState]:
    owner = owner_of(observed.flowworker)
    for item in observed.deployments:
        if owned_by(item, owner.uid) and _is_revision(item, owner.name):
            yield _revision(observed, owner, item)


def _orphans(observed: Observed) -> Iterable[Orphan]:
    name = observed.flowworker["metadata"]["name"]
    for item in observed.deployments:
        owner = annotation(item, OWNER_ANNOTATION)
        if owner is not None and orphaned(item, observed.flowworker) and _is_revision(item, name):
            metadata = item["metadata"]
            yield Orphan(name=metadata["name"], resource_version=metadata["resourceVersion"], owner=owner)


def _is_revision(item: Object, flowworker: str) -> bool:
    name = item["metadata"]["name"]
    return name == deployment_name(flowworker, name[-REVISION_LENGTH:])


def _revision(observed: Observed, owner: Owner, item: Object) -> RevisionState:
    metadata, spec = item["metadata"], item["spec"]
    revision = metadata["name"][-REVISION_LENGTH:]
    state = RevisionState(
        name=metadata["name"],
        revision=revision,
        resource_version=metadata["resourceVersion"],
        created_at=timestamp(metadata["creationTimestamp"]),
        replicas=spec.get("replicas", 1),
        proven=annotation(item, PROVEN_ANNOTATION) == "true",
        grace=spec["template"]["spec"].get("terminationGracePeriodSeconds"),
        refusal=_replica_failure(item),
        pods=tuple(_pods(observed, annotation(item, ADOPTED_ANNOTATION) or owner.uid, revision)),
    )
    return replace(state, drifted=_drifted(observed, state, item))


def _drifted(observed: Observed, state: RevisionState, item: Object) -> bool:
    if state.revision != observed.design.target or state.grace is None:
        return False
    adopted = annotation(item, ADOPTED_ANNOTATION)
    wanted = observed.design.rendering.deployment(grace=state.grace, adopted_from=adopted)
    return drifted(wanted, {**item, "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]})


def _pods(observed: Observed, owner: str, revision: str) -> Iterable[Any]:
    reading = observed.reading
    reports = _NOTHING if reading is None else reading.reports
    drains = _NOTHING if reading is None else reading.drains
    for pod in observed.pods:
        if revision_of_pod(pod) == revision and annotation(pod, OWNER_ANNOTATION) == owner:
            yield pod_state(pod, reports, drains, observed.obstacles)


def revision_of_pod(pod: Object) -> str | None:
    """The revision that a pod's label names."""
    return pod["metadata"].get("labels", _NOTHING).get(REVISION_LABEL)


def _replica_failure(item: Object) -> str | None:
    failure = condition(item.get("status", _NOTHING), "ReplicaFailure")
    return failure.get("message", "") if failure.get("status") == "True" else None


def _budget(observed: Observed) -> BudgetState:
    if observed.budgets is None:
        return BudgetState(known=False)
    owner = owner_of(observed.flowworker)
    mine = (item for item in observed.budgets if owned_by(item, owner.uid))
    item = next((one for one in mine if one["metadata"]["name"] == base_name(owner.name)), None)
    if item is None:
        return BudgetState()
    wanted = observed.design.rendering.disruption_budget()
    live = {**item, "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]}
    return BudgetState(exists=True, drifted=drifted(wanted, live))


def _complaint(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, ("spec", *error["loc"])))
    return f"{place}: {error['msg']}"
