"""What a decision is made from: one FlowWorker, its pods and its database at one moment. Gathered elsewhere."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from flowworker.option_change import OptionChange
from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.api.status import FlowWorkerStatus
from flowworker_operator.bounded import TokenBucket
from flowworker_operator.domain.memory import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, on two clocks."""

    wall: datetime
    """The API server's, with time zone; for stamps and for ages of what it has stamped."""
    tick: float
    """Seconds of a monotonic clock; for windows, which a jump of the wall clock must not shorten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that does not work, in words a user can act on."""

    reason: Reason
    message: str


class WorkerState(StrEnum):
    """States a worker reports, and `lost`, which others report about it."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    DRAINED = "drained"
    STOPPING = "stopping"
    STOPPED = "stopped"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The last word of the worker in a pod."""

    state: WorkerState
    kind: str
    slug: str
    in_flight: int
    on_last_attempt: bool = False
    """It runs a task that would fail for good if it were interrupted."""
    last_error: str | None = None
    results_wait: bool = False
    """A result has waited long to be written: the database takes results slowly, or not this one."""
    claims_wait: bool = False
    """It has wanted to claim for long, and no claim was answered."""
    doubts: int = 0
    """Claims and writes whose outcome it does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A worker that ended without reporting it, as its last report described it."""

    pod: str
    state: WorkerState
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """A drain in force that the operator asked for; drains asked for by others are none of its business."""

    age: float
    """Seconds since it was first asked for without a break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What kubelet reports about one container; empty strings where it reports nothing."""

    name: str
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    ended_reason: str = ""
    """Of the current state, or else of the last one."""
    ended_message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why the containers of a pod are not created, in the words of an event."""

    reason: str
    """Of the event, such as FailedMount."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """One pod."""

    name: str
    uid: str
    created_at: datetime
    ready: bool = False
    ending: bool = False
    """Being deleted, or over: it is no capacity any more."""
    marked: bool = False
    """Has the deletion cost that this operator sets."""
    unschedulable: str | None = None
    cut_off: bool = False
    """Kubernetes does not hear from its node."""
    obstacle: Obstacle | None = None
    containers: tuple[ContainerState, ...] = ()
    """Init containers first: what they fail at hides the rest."""
    report: Report | None = None
    drain: DrainRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerState:
    """A pod that creates the flow or queue for one revision."""

    revision: str
    pod: PodState
    done: bool = False
    """Its container has ended well."""
    leaving: bool = False
    """It is being deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionState:
    """One Deployment of the FlowWorker with its pods."""

    name: str
    """Of the Deployment."""
    revision: str
    resource_version: str
    created_at: datetime
    replicas: int
    """Asked for in its spec."""
    proven: bool = False
    drifted: bool = False
    """Differs from what the spec renders; only known of the revision asked for."""
    grace: int | None = None
    """Seconds its pods may take to stop; grows at most, and only while it has no pods."""
    refusal: str | None = None
    """Why its pods are not created, in the API server's words."""
    pods: tuple[PodState, ...] = ()

    @property
    def live(self) -> tuple[PodState, ...]:
        """Pods that are not about to end."""
        return tuple(pod for pod in self.pods if not pod.ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A Deployment that a deleted FlowWorker of this name has left behind."""

    name: str
    resource_version: str
    owner: str
    """Uid of that FlowWorker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One reading of the database; counts are capped by the reader."""

    startable: int = 0
    in_flight: int = 0
    stalled: int = 0
    delayed: int = 0
    depth: int = 0
    oldest_startable_at: datetime | None = None
    due_in: float | None = None
    """Seconds until the first delayed task is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """The database as last seen."""

    demand: Demand | None = None
    """The last good reading; None before the first."""
    age: float | None = None
    """Seconds since that reading."""
    fault: Fault | None = None
    """Why the last attempt to read failed: secret, connection, access."""
    schema_fault: Fault | None = None
    longest_timeout: int | None = None
    """Longest effective timeout of the flow or queue, in seconds; None while unknown."""
    option_changes: tuple[OptionChange, ...] | None = None
    """Options that the database has otherwise than the code of the revision asked for; None while unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A FlowWorker that takes from the same queue of the same database."""

    namespace: str
    name: str
    uid: str
    created_at: datetime
    kind: str = field(compare=False)
    """`flow` or `queue`."""
    slug: str = field(compare=False)

    @property
    def work(self) -> str:
        """What it serves, in words."""
        return f"{self.kind} {self.slug!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """The PodDisruptionBudget."""

    known: bool = True
    """Whether budgets can be read at all; without that right there is none."""
    exists: bool = False
    drifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one plan is made from."""

    at: Moment
    claim: Claim
    """Who this FlowWorker is."""
    generation: int
    spec: FlowWorkerSpec
    replicas_set: bool = False
    """Whether a client other than the operator has written `spec.replicas`; the schema's default does not count."""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    """What has to be done by others before it can go."""
    refusal: Fault | None = None
    """Why the last write of a child was refused."""
    contest: str | None = None
    """What others undo again and again, and who."""
    rival: str | None = None
    """Which other installation of the operator would serve it, too."""
    status: FlowWorkerStatus = field(default_factory=FlowWorkerStatus)
    status_written_at: float | None = None
    """Tick of the last status write of this process."""
    status_writes: TokenBucket | None = None
    """What is left of the allowance for them; None before the first."""
    database: DatabaseState = field(default_factory=DatabaseState)
    rivals: tuple[Claim, ...] = ()
    target: str
    """Hash of the pod template that the spec renders."""
    revisions: tuple[RevisionState, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    compilers: tuple[CompilerState, ...] = ()
    budget: BudgetState = field(default_factory=BudgetState)
    memory: Memory | None = None
    """What the plan before remembered; None after a start of the operator."""

    @property
    def current(self) -> RevisionState | None:
        """The revision the spec asks for, if its Deployment exists."""
        return next((revision for revision in self.revisions if revision.revision == self.target), None)

    @property
    def compiler(self) -> CompilerState | None:
        """The pod that creates the flow or queue for the revision the spec asks for."""
        return next((one for one in self.compilers if one.revision == self.target), None)
