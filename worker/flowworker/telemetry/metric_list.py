"""Every metric of a worker: name, meaning, labels, buckets. docs/reference/metrics.md is generated from this list.

Labels are bounded by what is deployed: `source` is `flow` or `queue`, `slug` the flow's slug or the queue's name,
`step` a step of the definition. Ids of runs, tasks and messages are never labels.
"""

from flowworker.metric_specs import CounterSpec, GaugeSpec, HistogramSpec, MetricSpec

WORK = ("source", "slug")
STEP = (*WORK, "step")


TASKS_STARTED = CounterSpec(
    name="flowworker_tasks_started_total", help="Handlers started, every attempt counted.", labels=STEP
)
TASKS_COMPLETED = CounterSpec(
    name="flowworker_tasks_completed_total", help="Tasks whose output the database has taken.", labels=STEP
)
TASKS_FAILED = CounterSpec(
    name="flowworker_tasks_failed_total",
    help="Attempts that failed. `failure`: exception, timeout, input, output or exit; `final`: true when no attempt "
    "follows.",
    labels=(*STEP, "failure", "final"),
)
TASKS_RELEASED = CounterSpec(
    name="flowworker_tasks_released_total",
    help="Tasks given back unfinished, their attempt not charged: shutdown, lost lease.",
    labels=STEP,
)
TASKS_SUPERSEDED = CounterSpec(
    name="flowworker_tasks_superseded_total",
    help="Results the database refused: another attempt owns the task, or its run has ended.",
    labels=STEP,
)
RESULTS_REFUSED = CounterSpec(
    name="flowworker_results_refused_total",
    help="Attempts of which the database took no outcome, whatever was written; the task runs again.",
    labels=STEP,
)
TASK_DURATION = HistogramSpec(
    name="flowworker_task_duration_seconds",
    help="Time a handler ran, successful or not.",
    labels=STEP,
    buckets=(0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1800.0),
    why="From a quick query (5 ms) to a long download (30 min); 60 s is pgflow's default timeout, 30 s the common "
    "timeout of HTTP clients. Steps of about 3 keep eleven series for each step.",
)
TASK_WAIT = HistogramSpec(
    name="flowworker_task_wait_seconds",
    help="From enqueueing to the start of the first attempt, a wanted start delay included. By the database's clock "
    "for flows, against the worker's clock for queues.",
    labels=STEP,
    buckets=(0.005, 0.025, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0),
    why="5 ms is what `notify` can reach, 1 s and 5 s are the default poll intervals, 15 s is how soon a lost "
    "worker's job is back; above that there is a backlog.",
)
POLL_DURATION = HistogramSpec(
    name="flowworker_poll_duration_seconds",
    help="Time the database took to answer a claim.",
    labels=WORK,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
    why="A healthy claim takes 1 to 10 ms; 100 ms hints at bloat or a network far away, seconds at locks.",
)
POLL_TASKS = HistogramSpec(
    name="flowworker_poll_tasks",
    help="Tasks one claim brought.",
    labels=WORK,
    buckets=(0, 1, 2, 5, 10, 20, 50, 100),
    why="0 shows idle polling; the default batch size is 10.",
)
UNSTARTABLE = CounterSpec(
    name="flowworker_messages_unstartable_total",
    help="Messages read that cannot start here: foreign, left over, of an unknown step, or running elsewhere.",
    labels=WORK,
)
RUNS_STARTED = CounterSpec(
    name="flowworker_runs_started_total", help="Runs started by a client in this process.", labels=("slug",)
)
RUNS_ENDED = CounterSpec(
    name="flowworker_runs_ended_total",
    help="Runs that a result of this worker brought to their end. `status`: completed or failed.",
    labels=("slug", "status"),
)
RUN_DURATION = HistogramSpec(
    name="flowworker_run_duration_seconds",
    help="From a run's start to its end, by the database's clock.",
    labels=("slug", "status"),
    buckets=(0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0),
    why="From a chain of quick steps (50 ms) to an overnight batch (12 h).",
)
LOOP_BLOCKED = CounterSpec(
    name="flowworker_loop_blocked_total", help="Times a handler kept the event loop from running.", labels=STEP
)
LOOP_BLOCKED_SECONDS = CounterSpec(
    name="flowworker_loop_blocked_seconds_total",
    help="Time handlers were seen to keep the event loop from running.",
    labels=STEP,
)
DATABASE_UP = GaugeSpec(
    name="flowworker_database_up",
    help="1 while a connection of this process works, 0 while it does not. `connection`: claim, finish, beat or "
    "pulse; aside from its first loss on.",
    labels=("connection",),
)
DATABASE_LOST = CounterSpec(
    name="flowworker_database_lost_total", help="Times a working connection was lost.", labels=("connection",)
)
WORKERS_LOST = CounterSpec(
    name="flowworker_workers_lost_total", help="Peers this worker saw die and marked lost.", labels=WORK
)
TASKS_RECOVERED = CounterSpec(
    name="flowworker_tasks_recovered_total",
    help="Tasks taken from dead workers. `result`: released, or failed when past the crash budget.",
    labels=(*WORK, "result"),
)
EVENTS_DROPPED = CounterSpec(
    name="flowworker_events_dropped_total",
    help="Events an asynchronous subscriber was not given because too many of its calls were pending. `subscriber`: "
    "where it is defined.",
    labels=("subscriber",),
)
IN_FLIGHT = GaugeSpec(
    name="flowworker_tasks_in_flight", help="Tasks claimed and not finished, all workers of the process.", labels=WORK
)
SLOTS = GaugeSpec(name="flowworker_slots", help="Tasks that may run at once, all workers of the process.", labels=WORK)
WORKERS = GaugeSpec(
    name="flowworker_workers", help="Workers of this process by life-cycle state.", labels=(*WORK, "state")
)
HEARTBEAT_AGE = GaugeSpec(
    name="flowworker_heartbeat_age_seconds",
    help="Time since the last heartbeat the database took; the oldest of the process's workers.",
    labels=WORK,
)
UNWRITTEN_AGE = GaugeSpec(
    name="flowworker_unwritten_age_seconds",
    help="Time for which the oldest result of the process's workers has waited to be written; 0 when none waits. A "
    "pod above 60 s is not ready.",
    labels=WORK,
)
CLAIM_AGE = GaugeSpec(
    name="flowworker_claim_age_seconds",
    help="Time since the last claim the database answered; the oldest of the process's workers. It grows while every "
    "slot is taken.",
    labels=WORK,
)
DOUBTS = GaugeSpec(
    name="flowworker_doubts", help="Claims and writes of the process whose outcome is not known.", labels=WORK
)
BUILD_INFO = GaugeSpec(name="flowworker_build_info", help="Always 1; the label has the version.", labels=("version",))

METRICS: tuple[MetricSpec, ...] = (
    TASKS_STARTED,
    TASKS_COMPLETED,
    TASKS_FAILED,
    TASKS_RELEASED,
    TASKS_SUPERSEDED,
    RESULTS_REFUSED,
    TASK_DURATION,
    TASK_WAIT,
    POLL_DURATION,
    POLL_TASKS,
    UNSTARTABLE,
    RUNS_STARTED,
    RUNS_ENDED,
    RUN_DURATION,
    LOOP_BLOCKED,
    LOOP_BLOCKED_SECONDS,
    DATABASE_UP,
    DATABASE_LOST,
    WORKERS_LOST,
    TASKS_RECOVERED,
    EVENTS_DROPPED,
    IN_FLIGHT,
    SLOTS,
    WORKERS,
    HEARTBEAT_AGE,
    UNWRITTEN_AGE,
    CLAIM_AGE,
    DOUBTS,
    BUILD_INFO,
)
