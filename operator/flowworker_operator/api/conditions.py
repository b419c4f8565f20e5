"""The conditions of a FlowWorker and every reason they can have: one table for code, status and documentation.

Ready sums up and is what `kubectl wait --for=condition=Ready` waits for. Stalled is written only while it is true: it
is what kstatus (Argo CD, Flux, Helm) reads as failed. So is Contested, which few ever see.
"""

from collections.abc import Mapping
from enum import StrEnum


class ConditionType(StrEnum):
    """Aspects of the resource's state."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    STALLED = "Stalled"
    DATABASE_REACHABLE = "DatabaseReachable"
    SCHEMA_READY = "SchemaReady"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SCALE_IGNORED = "ScaleIgnored"
    DRAINS_IN_TIME = "DrainsInTime"
    OPTIONS_IN_EFFECT = "OptionsInEffect"
    CONTESTED = "Contested"


class Reason(StrEnum):
    """Why something is as it is: reasons of conditions and of scaling decisions."""

    # All is well
    RUNNING = "Running"
    IDLE = "Idle"
    # On the way
    PROVING = "Proving"
    ROLLING_OUT = "RollingOut"
    COMPLETE = "Complete"
    SUSPENDED = "Suspended"
    TERMINATING = "Terminating"
    # Faults of the resource
    INVALID_SPEC = "InvalidSpec"
    # Faults of the installation
    ACCESS_MISSING = "AccessMissing"
    # Faults of a pod
    IMAGE_PULL = "ImagePull"
    BAD_SECRET = "BadSecret"  # noqa: S105 (a reason)
    BAD_CONFIG_MAP = "BadConfigMap"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    NO_SANDBOX = "NoSandbox"
    BAD_SETTINGS = "BadSettings"
    BAD_HANDLER = "BadHandler"
    SHAPE_MISMATCH = "ShapeMismatch"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOP = "CrashLoop"
    NOT_READY = "NotReady"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA = "Quota"
    TEMPLATE_REFUSED = "TemplateRefused"
    WEBHOOK_FAILED = "WebhookFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    # Faults of the database
    DATABASE_UNREACHABLE = "DatabaseUnreachable"
    DATABASE_REFUSED = "DatabaseRefused"
    SCHEMA_MISSING = "SchemaMissing"
    SCHEMA_UNSUPPORTED = "SchemaUnsupported"
    # Two resources for one flow
    OWNED_ELSEWHERE = "OwnedElsewhere"
    # Scaling
    BACKLOG = "Backlog"
    WINDOW = "Window"
    COOLING_DOWN = "CoolingDown"
    UNKNOWN = "Unknown"
    EXTERNAL = "External"
    PAUSED = "Paused"
    DRY_RUN = "DryRun"
    # The rest
    REACHABLE = "Reachable"
    SUPPORTED = "Supported"
    SCALING = "Scaling"
    WITHIN_LIMITS = "WithinLimits"
    MAX_REPLICAS = "MaxReplicas"
    NOT_EXTERNAL = "NotExternal"
    NOTHING_IGNORED = "NothingIgnored"
    GRACE_SUFFICIENT = "GraceSufficient"
    GRACE_TOO_SHORT = "GraceTooShort"
    OPTIONS_MATCH = "OptionsMatch"
    OPTIONS_DIFFER = "OptionsDiffer"
    UNDONE_BY_OTHERS = "UndoneByOthers"
    SECOND_OPERATOR = "SecondOperator"


MEANINGS: Mapping[Reason, str] = {
    Reason.RUNNING: "The revision asked for is proven; its workers do the work, or start.",
    Reason.IDLE: "The revision asked for is proven; no worker runs: there is nothing to do, or none is asked for.",
    Reason.PROVING: "The first pod of a new revision has not yet started, checked its flow and reported.",
    Reason.ROLLING_OUT: "The new revision is proven; workers of the one before are being replaced.",
    Reason.COMPLETE: "Every worker runs the revision asked for.",
    Reason.SUSPENDED: "No worker is started, because the mode is Paused or DryRun.",
    Reason.TERMINATING: "The FlowWorker is being deleted; the message names the finalizers that hold it.",
    Reason.INVALID_SPEC: "The spec is not valid, although the CRD let it through; the message names the field.",
    Reason.ACCESS_MISSING: "The operator may not read what it needs in this namespace; the message names it.",
    Reason.IMAGE_PULL: "The image cannot be pulled: check spec.image, the registry and imagePullSecrets.",
    Reason.BAD_SECRET: "A Secret or a key of it is missing or unusable: check spec.database and spec.template.",
    Reason.BAD_CONFIG_MAP: "A ConfigMap or a key of it that spec.template names is missing.",
    Reason.VOLUME_NOT_MOUNTED: "A volume of spec.template cannot be attached or mounted; the message has the reason.",
    Reason.NO_SANDBOX: "The node cannot set the pod up, mostly its network; the message is the node's.",
    Reason.BAD_SETTINGS: "The worker refuses its settings: the message names the variable.",
    Reason.BAD_HANDLER: "The handler does not import, or is another flow or queue than the spec says.",
    Reason.SHAPE_MISMATCH: "The flow in the image differs from the one in the database: give it a new slug.",
    Reason.OUT_OF_MEMORY: "The worker was killed for using more memory than its limit.",
    Reason.CRASH_LOOP: "The worker ends again and again; the message has its last words.",
    Reason.NOT_READY: "The worker runs but is not ready; the message has what is known.",
    Reason.UNSCHEDULABLE: "No node has room for the pod, or none is allowed.",
    Reason.QUOTA: "A resource quota or limit range forbids the pod.",
    Reason.TEMPLATE_REFUSED: "The API server refuses what spec.template makes of the pod.",
    Reason.WEBHOOK_FAILED: "An admission webhook of the cluster does not answer; it is asked again and again.",
    Reason.DEADLINE_EXCEEDED: "The new revision did not prove itself in time, for no reason that could be found.",
    Reason.DATABASE_UNREACHABLE: "The database does not answer. Workers are left as they are.",
    Reason.DATABASE_REFUSED: "The database refuses the user, the password or a right, as the one to create a flow.",
    Reason.SCHEMA_MISSING: "The database lacks what FlowWorker needs: run `flowworker db install`.",
    Reason.SCHEMA_UNSUPPORTED: "The database holds a version of pgmq or pgflow that is not supported.",
    Reason.OWNED_ELSEWHERE: "An older FlowWorker of the namespace serves this queue, for a flow or for jobs.",
    Reason.BACKLOG: "As many workers as the waiting and running tasks need.",
    Reason.WINDOW: "More workers were needed a moment ago; shrinking waits for the window.",
    Reason.COOLING_DOWN: "There is nothing to do, but not for long enough to go to zero.",
    Reason.UNKNOWN: "The amount of work is unknown; the number of workers is kept.",
    Reason.EXTERNAL: "spec.replicas decides.",
    Reason.PAUSED: "The mode is Paused: everything stays as it is.",
    Reason.DRY_RUN: "The mode is DryRun: the decision is shown and nothing is changed.",
    Reason.REACHABLE: "The database answers.",
    Reason.SUPPORTED: "The database has what is needed.",
    Reason.SCALING: "The number of workers follows the work.",
    Reason.WITHIN_LIMITS: "maxReplicas does not hold anything back.",
    Reason.MAX_REPLICAS: "More workers are wanted than maxReplicas allows.",
    Reason.NOT_EXTERNAL: "spec.replicas is set, but only mode External follows it.",
    Reason.NOTHING_IGNORED: "spec.replicas is followed, or was left alone.",
    Reason.GRACE_SUFFICIENT: "Workers have time to finish their tasks when pods are stopped.",
    Reason.GRACE_TOO_SHORT: "Pods are given less time to stop than a task may take.",
    Reason.OPTIONS_MATCH: "The options in the code are in force.",
    Reason.OPTIONS_DIFFER: "The database has other options than the code, and they are in force; the message has both.",
    Reason.SECOND_OPERATOR: "Another installation of the operator looks after the namespace too, and stands back.",
    Reason.UNDONE_BY_OTHERS: "What the operator writes is undone again and again; it is repeated ever more rarely.",
}
"""What each reason means, for users."""

FATAL = frozenset(
    {
        Reason.BAD_SETTINGS, Reason.BAD_HANDLER, Reason.SHAPE_MISMATCH, Reason.TEMPLATE_REFUSED,
        Reason.SCHEMA_UNSUPPORTED, Reason.OWNED_ELSEWHERE, Reason.INVALID_SPEC, Reason.ACCESS_MISSING,
    }
)  # fmt: skip
"""Reasons that do not go away until a user changes something."""
