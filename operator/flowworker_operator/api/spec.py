"""What a user asks for: the spec of a FlowWorker. The CRD and its documentation are generated from these fields."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from flowworker import worker_options
from flowworker.worker_options import Count
from flowworker_operator.api.model import Model, rule, rules
from flowworker_operator.api.template import LARGEST_TEMPLATE, PodTemplate

LONGEST_NAME = 63
LONGEST_QUEUE_NAME = 47
MOST_REPLICAS = 1000
A_DAY = 86_400
A_WEEK = 604_800

FLOW_SLUG = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
QUEUE_NAME = r"^([^$;'\x00-\x1f-]|-[^$;'\x00-\x1f-])*-?$"
"""Everything but what pgmq refuses (`$`, `;`, `'` and `--`) and control characters."""
HANDLER = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DATA_KEY = r"^[-._a-zA-Z0-9]+$"

CERTIFICATE, PRIVATE_KEY = "tls.crt", "tls.key"
"""Keys of a Secret of the type kubernetes.io/tls."""


class SignalStrategy(StrEnum):
    """How a worker learns that there is work."""

    POLLING = "Polling"
    NOTIFY = "Notify"


class CompileMode(StrEnum):
    """What a starting worker does about a flow or queue that the database does not have."""

    AUTO = "Auto"
    VERIFY = "Verify"


class ScalingMode(StrEnum):
    """Who decides how many workers run."""

    AUTO = "Auto"
    EXTERNAL = "External"
    DRY_RUN = "DryRun"
    PAUSED = "Paused"


class SecretRef(Model):
    """One key of a Secret in the namespace of the FlowWorker."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME, description="Its name.")]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=DATA_KEY,
            description="Its key that holds a PostgreSQL URI.",
        ),
    ] = "uri"


class CertificatesRef(Model):
    """One key of a Secret in the namespace of the FlowWorker."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME, description="Its name.")]
    key: Annotated[
        str,
        Field(
            min_length=1, max_length=253, pattern=DATA_KEY, description="Its key that holds the certificates, in PEM."
        ),
    ] = "ca.crt"


class ClientCertificateRef(Model):
    """A Secret of the type kubernetes.io/tls in the namespace of the FlowWorker."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=OBJECT_NAME,
            description="Its name. It holds a certificate with its chain under tls.crt and the private key under "
            "tls.key, both in PEM, as cert-manager and CloudNativePG write them.",
        ),
    ]


class Database(Model):
    """Where the flow or queue lives."""

    secret_ref: Annotated[
        SecretRef,
        Field(
            description="Secret with the connection string of the workers. Mounted as a file; a rotated secret needs "
            "no new pods. The operator reads the same one to count work."
        ),
    ]
    owner_secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret with the connection string of the owner of the tables. If set, a pod of its own "
            "compiles the flow and sets up notifications with it, once for each revision. Unset: the workers' "
            "role has to be enough."
        ),
    ] = None
    direct_secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret with a connection string that reaches PostgreSQL directly, for heartbeats and "
            "notifications. Set it when secretRef goes through a transaction pooler; prepared statements are then "
            "turned off on the pooled connections. Unset: secretRef is used for everything."
        ),
    ] = None
    ca_ref: Annotated[
        CertificatesRef | None,
        Field(
            description="Secret with the certificates of the authorities that vouch for the database server, for "
            "sslmode require, verify-ca or verify-full. The operator opens no file that a connection string names; "
            "workers find the certificates in a file that PGSSLROOTCERT names. Unset: only sslrootcert=system can be "
            "verified."
        ),
    ] = None
    client_certificate_ref: Annotated[
        ClientCertificateRef | None,
        Field(
            description="Secret with a client's certificate and its key, for a server that asks for one; needs "
            "sslmode require, verify-ca or verify-full. Workers find them in files that PGSSLCERT and PGSSLKEY name; "
            "the operator shows the same certificate. The key is RSA up to 4096 bits, Ed25519, or of the curves P-256, "
            "P-384 and P-521, and has no passphrase."
        ),
    ] = None


Milliseconds = Annotated[int, Field(ge=10, le=3_600_000)]

DEFAULTS = worker_options.WorkerOptions()
"""Of a worker, wherever it runs."""


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


class WorkerOptions(Model):
    """How each worker process behaves. A change makes a new revision."""

    max_concurrency: Annotated[Count, Field(description="Tasks that one worker runs at once.")] = (
        DEFAULTS.max_concurrency
    )
    batch_size: Annotated[Count, Field(description="Most tasks taken with one claim.")] = DEFAULTS.batch_size
    signal_strategy: Annotated[
        SignalStrategy,
        Field(
            description="Polling asks the database at intervals; Notify listens for inserts and asks at once. Notify "
            "needs pgmq 1.7 and a direct connection."
        ),
    ] = SignalStrategy.POLLING
    min_poll_interval_milliseconds: Annotated[
        Milliseconds, Field(description="Shortest pause between two polls, in milliseconds.")
    ] = _milliseconds(DEFAULTS.min_poll_interval)
    max_poll_interval_milliseconds: Annotated[
        Milliseconds, Field(description="Longest pause between two polls when there is nothing to do, in milliseconds.")
    ] = _milliseconds(DEFAULTS.max_poll_interval)
    notify_fallback_interval_milliseconds: Annotated[
        Milliseconds,
        Field(description="With Notify, pause between two polls when no notification arrives, in milliseconds."),
    ] = _milliseconds(DEFAULTS.notify_fallback_interval)
    drain_timeout_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=A_WEEK,
            description="Seconds a worker that is asked to stop may go on with the tasks it runs. Unset: the longest "
            "effective timeout of the flow or queue.",
            json_schema_extra={"nullable": True},
        ),
    ] = None
    compile: Annotated[
        CompileMode,
        Field(
            description="Auto creates a flow or queue that is missing, where the role may; Verify only checks. Neither "
            "changes or deletes one that exists."
        ),
    ] = CompileMode.AUTO


class Scaling(Model):
    """How many workers run. A change makes no new revision."""

    mode: Annotated[
        ScalingMode,
        Field(
            description="Auto follows the amount of work. External follows spec.replicas (kubectl scale, an HPA, "
            "KEDA), and shrinking still drains. DryRun decides and shows the decision in the status, but changes "
            "nothing. Paused leaves everything as it is."
        ),
    ] = ScalingMode.AUTO
    min_replicas: Annotated[
        int, Field(ge=0, le=MOST_REPLICAS, description="Fewest workers; 0 lets an idle FlowWorker go to zero.")
    ] = 0
    max_replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS, description="Most workers.")] = 10
    tasks_per_replica: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Tasks, waiting and running, that justify one worker. Unset: twice worker.maxConcurrency.",
            json_schema_extra={"nullable": True},
        ),
    ] = None
    idle_seconds_before_zero: Annotated[
        int,
        Field(
            ge=0,
            le=A_DAY,
            description="Seconds with nothing to do, and nothing due for as long, before the last workers go.",
        ),
    ] = 60
    scale_down_window_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=A_DAY,
            description="Seconds to look back when shrinking: never below the most workers needed in this time.",
        ),
    ] = 120


class Rollout(Model):
    """How a new revision replaces the one before."""

    progress_deadline_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=A_DAY,
            description="Seconds the first pod of a new revision has to prove itself before the rollout counts as "
            "failed. The revision before keeps working either way.",
        ),
    ] = 600


_SAME = "has(self.{0}) == has(oldSelf.{0}) && (!has(self.{0}) || self.{0} == oldSelf.{0})"


class FlowWorkerSpec(Model):
    """Workers for one flow or one queue of one database."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.flow) != has(self.queue)", "exactly one of flow and queue must be set"),
            rule(
                "self.scaling.minReplicas <= self.scaling.maxReplicas",
                "minReplicas must not be greater than maxReplicas",
                ".scaling.minReplicas",
            ),
            rule(
                "self.worker.minPollIntervalMilliseconds <= self.worker.maxPollIntervalMilliseconds",
                "minPollIntervalMilliseconds must not be greater than maxPollIntervalMilliseconds",
                ".worker.minPollIntervalMilliseconds",
            ),
            rule("!has(self.flow) || self.flow != 'run'", "flow must not be the reserved word run", ".flow"),
            rule(
                "!has(self.template.metadata.annotations) || self.template.metadata.annotations.map(key, size(key) + "
                f"size(self.template.metadata.annotations[key])).sum() <= {LARGEST_TEMPLATE}",
                f"annotations must have at most {LARGEST_TEMPLATE} characters together",
                ".template.metadata.annotations",
            ),
            rule(
                "!has(self.template.spec.containers) || self.template.spec.containers.map(one, "
                "(has(one.command) ? one.command.map(text, size(text)).sum() : 0) + "
                "(has(one.args) ? one.args.map(text, size(text)).sum() : 0) + "
                "(has(one.env) ? one.env.map(it, size(it.name) + (has(it.value) ? size(it.value) : 0)).sum() : 0)"
                f").sum() <= {LARGEST_TEMPLATE}",
                f"commands, arguments and variables must have at most {LARGEST_TEMPLATE} characters together",
                ".template.spec.containers",
            ),
            rule(_SAME.format("flow"), "flow cannot be changed; create another FlowWorker"),
            rule(_SAME.format("queue"), "queue cannot be changed; create another FlowWorker"),
        )
    )

    flow: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=LONGEST_QUEUE_NAME,
            pattern=FLOW_SLUG,
            description="Slug of the pgflow flow to run: ASCII letters, digits and underscores. Exactly one of flow "
            "and queue must be set; it cannot be changed.",
        ),
    ] = None
    queue: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=LONGEST_QUEUE_NAME,
            pattern=QUEUE_NAME,
            description="Name of the pgmq queue whose jobs to run. Exactly one of flow and queue must be set; it "
            "cannot be changed.",
        ),
    ] = None
    handler: Annotated[
        str,
        Field(
            max_length=253,
            pattern=HANDLER,
            description="MODULE:OBJECT of the flow or queue in the image, for example app.flows:site_report.",
        ),
    ]
    image: Annotated[
        str,
        Field(
            min_length=1, max_length=1024, pattern=r"^\S+$", description="Image with flowworker and the handler in it."
        ),
    ]
    database: Annotated[Database, Field(description="The database the flow or queue lives in.")]
    worker: Annotated[
        WorkerOptions, Field(description="How each worker process behaves. A change makes a new revision.")
    ] = WorkerOptions()
    scaling: Annotated[Scaling, Field(description="How many workers run. A change makes no new revision.")] = Scaling()
    replicas: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_REPLICAS,
            description="Workers wanted in mode External, usually written through the scale subresource. Leave it out "
            "of manifests: in the other modes it is ignored.",
        ),
    ] = 1
    rollout: Annotated[Rollout, Field(description="How a new revision replaces the one before.")] = Rollout()
    template: Annotated[
        PodTemplate,
        Field(
            description="Fragment of a pod template. The container named worker is completed by the operator: image, "
            "command, settings, probes, security context. At most 256 KiB as JSON. A change makes a new revision."
        ),
    ] = PodTemplate()

    @model_validator(mode="after")
    def _check_workload(self) -> Self:
        if (self.flow is None) == (self.queue is None):
            raise ValueError("exactly one of flow and queue must be set")
        return self

    @property
    def slug(self) -> str:
        """The flow's slug or the queue's name."""
        slug = self.queue if self.flow is None else self.flow
        assert slug is not None
        return slug

    @property
    def kind(self) -> str:
        """`flow` or `queue`, as workers report it."""
        return "queue" if self.flow is None else "flow"

    @property
    def tasks_per_replica(self) -> int:
        """Tasks that justify one worker, with the default filled in."""
        return self.scaling.tasks_per_replica or 2 * self.worker.max_concurrency
