"""Every metric of the operator: name, meaning, labels, buckets. docs/reference/operator-metrics.md is made from this.

Labels are bounded by what is deployed: `namespace` and `flowworker` name a resource, and its series go when it goes.
"""

from flowworker.metric_specs import CounterSpec, GaugeSpec, HistogramSpec, MetricSpec

FLOWWORKER = ("namespace", "flowworker")


ROUND_DURATION = HistogramSpec(
    name="flowworker_operator_reconcile_duration_seconds",
    help="Time one round for one FlowWorker took. `outcome`: done, conflict, waiting, standby, barred, rival or error.",
    labels=("outcome",),
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0),
    why="A round that changes nothing takes about 1 ms, each write 5 to 20 ms; 30 s is the longest request.",
)
DESIRED = GaugeSpec(name="flowworker_operator_desired_replicas", help="Workers wanted.", labels=FLOWWORKER)
REPLICAS = GaugeSpec(
    name="flowworker_operator_replicas", help="Pods that exist and are not being deleted.", labels=FLOWWORKER
)
READY_REPLICAS = GaugeSpec(name="flowworker_operator_ready_replicas", help="Pods that are ready.", labels=FLOWWORKER)
READY = GaugeSpec(
    name="flowworker_operator_ready", help="1 while the condition Ready is True, else 0.", labels=FLOWWORKER
)
DEPTH = GaugeSpec(
    name="flowworker_operator_queue_depth", help="Visible messages of the queue; capped.", labels=FLOWWORKER
)
STARTABLE = GaugeSpec(
    name="flowworker_operator_startable_tasks", help="Tasks a worker could claim now; capped.", labels=FLOWWORKER
)
IN_FLIGHT = GaugeSpec(
    name="flowworker_operator_in_flight_tasks", help="Tasks claimed and not finished.", labels=FLOWWORKER
)
STALLED = GaugeSpec(
    name="flowworker_operator_stalled_tasks", help="Tasks that will not go on without help.", labels=FLOWWORKER
)
OLDEST = GaugeSpec(
    name="flowworker_operator_oldest_startable_age_seconds",
    help="How long the task that has waited longest could have started; 0 while none waits.",
    labels=FLOWWORKER,
)
LIMITED = GaugeSpec(
    name="flowworker_operator_scaling_limited",
    help="1 while the work needs more than `maxReplicas`, else 0.",
    labels=FLOWWORKER,
)
PROBE_AGE = GaugeSpec(
    name="flowworker_operator_probe_age_seconds",
    help="Time since the database was last read; not there before the first time.",
    labels=FLOWWORKER,
)
DECISIONS = CounterSpec(
    name="flowworker_operator_decisions_total",
    help="Decisions about the number of workers that differ from the one before, by `reason`.",
    labels=(*FLOWWORKER, "reason"),
)
HELD_BACK = CounterSpec(
    name="flowworker_operator_held_back_total",
    help="Rounds that put off a `write` because there were many of its kind before: replicas (the demand goes up "
    "and down), mark (a pod is marked and unmarked) or status.",
    labels=(*FLOWWORKER, "write"),
)
WRITES = CounterSpec(
    name="flowworker_operator_api_writes_total",
    help="Writes sent to the API server, by `verb` (create, apply, apply_status, patch, delete) and `resource`, Leases "
    "and events included.",
    labels=("verb", "resource"),
)
REFUSALS = CounterSpec(
    name="flowworker_operator_api_errors_total",
    help="Requests that failed, by kind of `error`: Conflict, AlreadyExists, NotFound, Refused or Unavailable.",
    labels=("verb", "resource", "error"),
)
WAITING_KEYS = GaugeSpec(
    name="flowworker_operator_waiting_rounds", help="FlowWorkers that wait for their round to begin."
)
STUCK = GaugeSpec(
    name="flowworker_operator_longest_round_seconds",
    help="How long the longest of the rounds that run has taken.",
)
MISSED = CounterSpec(
    name="flowworker_operator_missed_changes_total",
    help="Objects whose change a re-list found and no watch had delivered, by `resource`.",
    labels=("resource",),
)
UNREADABLE = GaugeSpec(
    name="flowworker_operator_unreadable",
    help="1 while this kind cannot be read in this namespace (empty: in the whole cluster), else 0.",
    labels=("namespace", "resource"),
)
LEADER = GaugeSpec(name="flowworker_operator_leader", help="1 while this process is the one that acts, else 0.")
BUILD_INFO = GaugeSpec(
    name="flowworker_operator_build_info", help="Always 1; the label is the version.", labels=("version",)
)

METRICS: tuple[MetricSpec, ...] = (
    ROUND_DURATION,
    DESIRED,
    REPLICAS,
    READY_REPLICAS,
    READY,
    DEPTH,
    STARTABLE,
    IN_FLIGHT,
    STALLED,
    OLDEST,
    LIMITED,
    PROBE_AGE,
    DECISIONS,
    HELD_BACK,
    WRITES,
    REFUSALS,
    WAITING_KEYS,
    STUCK,
    MISSED,
    UNREADABLE,
    LEADER,
    BUILD_INFO,
)
