"""A plan: lists of changes, each with its reason, in the order in which they are to be applied."""

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from flowworker_operator.api.status import FlowWorkerStatus
from flowworker_operator.domain.memory import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Write or renew the drain of a pod; a renewal before it lapses keeps the time it was first asked for."""

    pod: str
    uid: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDrain:
    """Take the drain of a pod back."""

    pod: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Set the deletion cost of a pod, or take it off."""

    pod: str
    uid: str
    cost: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Annotate a Deployment as proven."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """Create the pod that creates the flow or queue for the revision asked for."""

    pod: str
    revision: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Delete a pod that was to create a flow or queue."""

    pod: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Make a Deployment that was left behind ours, as it is, unless it has changed since it was seen."""

    name: str
    resource_version: str
    owner: str
    """Uid of the FlowWorker that has left it behind."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Create the Deployment of the revision asked for. One that exists must be left alone: it has its own size."""

    name: str
    revision: str
    replicas: int
    grace: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Apply the rendered Deployment again, without replicas; with the grace period it has, or a longer one at zero."""

    name: str
    grace: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Set the replicas of a Deployment, unless it has changed since it was seen."""

    name: str
    resource_version: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete an empty Deployment, unless it has changed since it was seen."""

    name: str
    resource_version: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Apply or delete the PodDisruptionBudget."""

    action: Literal["apply", "delete"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReplicas:
    """Write `spec.replicas` of the FlowWorker itself, on entering or leaving mode External."""

    replicas: int
    reason: str


Change: TypeAlias = Mark | Prove | Compile | Remove | Adopt | Create | Repair | Scale | Delete | Budget | SetReplicas
"""A change of one object of the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One Kubernetes event on the FlowWorker; the executor counts repetitions."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


HeldBack: TypeAlias = Literal["replicas", "mark", "status"]
"""A kind of write that is put off, because there were many shortly before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to change.

    The memory is to be kept for the next plan whether or not everything could be applied. The status comes last, and
    only when `set_replicas` was applied: its mode is what shows that the number still has to be written.
    """

    drain: tuple[Drain, ...] = ()
    end_drain: tuple[EndDrain, ...] = ()
    mark: tuple[Mark, ...] = ()
    prove: tuple[Prove, ...] = ()
    compile: tuple[Compile, ...] = ()
    adopt: tuple[Adopt, ...] = ()
    create: tuple[Create, ...] = ()
    remove: tuple[Remove, ...] = ()
    repair: tuple[Repair, ...] = ()
    scale: tuple[Scale, ...] = ()
    delete: tuple[Delete, ...] = ()
    budget: Budget | None = None
    set_replicas: SetReplicas | None = None
    status: FlowWorkerStatus | None = None
    events: tuple[Event, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    memory: Memory | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to change anywhere."""
        return not any(getattr(self, field.name) for field in fields(self) if field.name != "memory")
