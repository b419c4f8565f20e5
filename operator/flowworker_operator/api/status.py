"""What the operator reports: the status of a FlowWorker."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from flowworker_operator.api.model import Model
from flowworker_operator.api.spec import ScalingMode

MOST_LISTED_WORKERS = 20
LONGEST_MESSAGE = 2048
LONGEST_ERROR = 512

Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Label = Annotated[str, Field(max_length=63)]
Message = Annotated[str, Field(max_length=LONGEST_MESSAGE)]


class Revision(Model):
    """Which pod template the workers run."""

    current: Annotated[Label, Field(description="Hash of the pod template that the spec asks for.")]
    proven: Annotated[bool, Field(description="Whether a pod of it has started, checked its flow and reported.")]


class Queue(Model):
    """What the database holds, as last read."""

    depth: Annotated[Count, Field(description="Visible messages of the queue, the number pgmq shows; capped.")] = 0
    startable: Annotated[Count, Field(description="Tasks a worker could claim now; capped.")] = 0
    in_flight: Annotated[Count, Field(description="Tasks claimed and not finished.")] = 0
    delayed: Annotated[Count, Field(description="Tasks that are due later: retries and delayed starts; capped.")] = 0
    stalled: Annotated[Count, Field(description="Tasks that will not go on without help; never scaled on.")] = 0
    oldest_startable_at: Annotated[
        datetime | None, Field(description="Since when the oldest startable task could have been claimed.")
    ] = None
    observed_at: Annotated[datetime, Field(description="When these values last changed.")]


class WorkerEntry(Model):
    """One worker."""

    pod: Annotated[str, Field(max_length=253, description="Name of the pod.")]
    state: Annotated[
        Literal["starting", "running", "draining", "drained", "stopping", "stopped", "lost", "unknown"],
        Field(description="State the worker reports; unknown until it has reported, lost when it died silently."),
    ]
    in_flight: Annotated[Count, Field(description="Tasks it runs.")] = 0
    last_error: Annotated[
        str | None, Field(max_length=LONGEST_ERROR, description="Its last error, without secrets.")
    ] = None


class Workers(Model):
    """The workers, as they report."""

    total: Annotated[Count, Field(description="Pods.")] = 0
    running: Annotated[Count, Field(description="Workers that claim tasks.")] = 0
    draining: Annotated[Count, Field(description="Workers that claim nothing more, because they are about to go.")] = 0
    lost: Annotated[Count, Field(description="Workers that stopped reporting without a word.")] = 0
    list_: Annotated[
        tuple[WorkerEntry, ...],
        Field(
            alias="list",
            max_length=MOST_LISTED_WORKERS,
            description="Up to 20 workers, those that need attention first.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class ScalingStatus(Model):
    """The last decision."""

    desired: Annotated[Count, Field(description="Workers wanted.")]
    reason: Annotated[Label, Field(description="Why, in one word.")]
    message: Annotated[Message, Field(description="Why, with the numbers.")]
    mode: Annotated[ScalingMode, Field(description="Mode of the last decision.")]
    last_scale_time: Annotated[datetime | None, Field(description="When the number wanted last changed.")] = None


class Condition(Model):
    """One aspect of the resource's state."""

    type: Annotated[str, Field(min_length=1, max_length=63, description="Aspect.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    observed_generation: Annotated[Count, Field(description="Generation of the spec it speaks about.")]
    last_transition_time: Annotated[datetime, Field(description="When the status last changed.")]
    reason: Annotated[str, Field(min_length=1, max_length=63, description="Why, in one word.")]
    message: Annotated[Message, Field(description="Why, in a sentence.")]


class Installation(Model):
    """One installation of the operator."""

    release: Annotated[
        str, Field(max_length=507, description="Namespace and name of its Lease: all its processes share that one.")
    ]
    version: Annotated[Label, Field(description="Version of FlowWorker.")]

    def __str__(self) -> str:
        return f"{self.release}, version {self.version}"


class FlowWorkerStatus(Model):
    """What the operator observed. Everything here can be found again from spec, cluster and database."""

    model_config = ConfigDict(title="status")

    observed_generation: Annotated[Count | None, Field(description="Generation of the spec the operator acted on.")] = (
        None
    )
    served_by: Annotated[
        Installation | None,
        Field(description="The installation of the operator that serves the FlowWorker; others stand back."),
    ] = None
    challenged_by: Annotated[
        Installation | None,
        Field(
            description="Another installation that looks after the namespace and asks whether the first one still "
            "lives, which takes this away. Unanswered for a minute, the other one serves the FlowWorker."
        ),
    ] = None
    replicas: Annotated[Count, Field(description="Pods that exist and are not being deleted.")] = 0
    ready_replicas: Annotated[Count, Field(description="Pods that are ready.")] = 0
    selector: Annotated[
        str | None,
        Field(max_length=256, description="Label selector of the pods, for the scale subresource."),
    ] = None
    revision: Annotated[Revision | None, Field(description="Which pod template the workers run.")] = None
    queue: Annotated[Queue | None, Field(description="What the database holds, as last read.")] = None
    workers: Annotated[Workers | None, Field(description="The workers, as they report.")] = None
    scaling: Annotated[ScalingStatus | None, Field(description="The last decision about the number of workers.")] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            description="Conditions; Ready sums up. Reasons are listed in the documentation.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
