"""Checks over one look at a database, each a pure function: what is wrong, and what to do about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from flowworker.database.capabilities import Capabilities
from flowworker.database.grants import required_functions
from flowworker.database.heartbeat import HEALTH_COLUMNS
from flowworker.database.notify_setup import NotifyState, NotifyStatus
from flowworker.database.owner_rights import Definer, OpenSchema
from flowworker.definition.slugs import slug_advice
from flowworker.option_change import REMEDY, OptionChange

STALE_AFTER = 30.0
"""Seconds without a report; a worker reports every 3."""
WORST_SKEW = 5.0
"""Seconds between this machine's clock and the database's."""
WORST_TRANSACTION = 300.0
"""Seconds a transaction may stay open."""
WORST_XMIN_AGE = 1_000_000
"""Transactions since the oldest snapshot: until it ends, dead rows newer than it stay."""
FULL_CONNECTIONS = 0.8
MANY_DEAD = 10_000
BUSY_LIVE = 10_000
GOOD_FILLFACTOR = 80
SHOWN = 5
"""Functions listed by name."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer of the doctor."""

    level: Level
    check: str
    """Name of the check, for scripts."""
    found: str
    advice: str | None = None
    """What to do; None with OK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTable:
    """Statistics of the table behind a queue."""

    name: str
    live: int
    dead: int
    fillfactor: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleWorker:
    """A worker that stopped reporting."""

    worker_name: str
    slug: str
    silence: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlastingStep:
    """A step that may take longer than its flow's timeout says; seconds."""

    flow_slug: str
    step_slug: str
    timeout: int
    flow_timeout: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One look at a database."""

    role: str
    capabilities: Capabilities
    listen_works: bool
    """A notification sent on another connection arrived."""
    shares_sessions: bool
    """A pooler in transaction mode stands before the database."""
    statement_cache: bool
    """Workers would prepare statements once per connection."""
    clock_skew: float
    """Seconds this machine's clock is ahead of the database's; negative: behind."""
    connection_limit: int
    connections: int
    oldest_xmin_age: int
    oldest_slot_age: int
    longest_transaction: float
    """Seconds, among the sessions this role may see."""
    tables: Sequence[QueueTable] = ()
    notify: Mapping[str, NotifyState]
    """Per queue."""
    flow_problems: Mapping[str, Sequence[str]]
    """Per flow given: how its shape differs; empty: it agrees."""
    flow_options: Mapping[str, Sequence[OptionChange]] = field(default_factory=dict[str, Sequence[OptionChange]])
    """Per flow given: options that differ."""
    slugs: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Per flow in the database: its steps."""
    split_flows: Sequence[str] = ()
    """Flows with a queue for each step."""
    outlasting_steps: Sequence[OutlastingStep] = ()
    definers: Sequence[Definer] = ()
    """Functions that run with their owner's rights on their caller's path."""
    open_schemas: Sequence[OpenSchema] = ()
    stale_workers: Sequence[StaleWorker] = ()
    shared_queues: Sequence[tuple[str, str]] = ()
    """Workers of a plain queue, by name, with the flow whose queue it is."""
    ownerless: Mapping[str, int]
    """Per flow: started tasks whose worker is gone."""
    foreign_messages: Mapping[str, int]
    """Per flow: messages in its queue that belong to no task."""


Check: TypeAlias = Callable[[Examination], Iterable[Finding]]


def diagnose(examination: Examination) -> list[Finding]:
    """Every finding of every check; a check that finds nothing wrong says so with one OK."""
    return [
        finding
        for name, check in CHECKS.items()
        for finding in [*check(examination)] or [Finding(level=Level.OK, check=name, found="nothing wrong")]
    ]


def check_server(examination: Examination) -> Iterable[Finding]:
    """Whether this server takes writes."""
    if not examination.capabilities.writable:
        yield _error("server", "this server is a standby or read-only",
                     "connect to the primary, for example with target_session_attrs=read-write")  # fmt: skip


def check_schema(examination: Examination) -> Iterable[Finding]:
    """Whether pgmq, pgflow and our own tables are there in versions we know."""
    found = examination.capabilities
    install = "run `flowworker db install` with the owner's connection"
    if not found.pgmq:
        yield _error("schema", "pgmq is not installed", install)
    elif not found.message_headers:
        yield _error("schema", "this pgmq is older than 1.5.0", "upgrade it, for example ALTER EXTENSION pgmq UPDATE")
    if not found.pgflow:
        yield _warning("schema", "pgflow is not installed: only plain queues work", install)
    elif not found.task_index or found.start_tasks_arity not in (3, 4, 5):
        yield _error("schema", f"this pgflow core ({found.core}) is none we know", "use a core from 0.8 to 0.17")
    if found.pgflow and not found.realtime:
        yield _error("schema", "realtime.send is missing: every change of a run fails", install)
    if not found.own_schema:
        yield _error("schema", "schema flowworker is missing", f"{install}, or only ours with --only flowworker")
    elif lacking := sorted(HEALTH_COLUMNS - found.own_columns) + ["functions for maps"] * (not found.own_map_tasks):
        yield _warning("schema", f"schema flowworker is older than this worker, it lacks {', '.join(lacking)}", install)


def check_rights(examination: Examination) -> Iterable[Finding]:
    """Whether this role may do what a worker does."""
    found, role = examination.capabilities, examination.role
    grant = f"run `flowworker db install --role {role}` with the owner's connection"
    if found.pgflow and not found.can_work:
        yield _error("rights", f"role {role!r} may not claim or finish tasks", grant)
    if found.own_schema and not found.can_report:
        yield _error("rights", f"role {role!r} may not write flowworker.workers", grant)
    required = required_functions(found.denied_functions, schemas=("pgflow", "pgmq", "realtime"))
    if required:
        yield _error("rights", f"role {role!r} may not execute {_listed(required)}", grant)
    elif found.denied_functions:
        denied = _listed(found.denied_functions)
        yield _warning("rights", f"role {role!r} may not execute {denied}; some cores of pgflow need that", grant)


def check_escalation(examination: Examination) -> Iterable[Finding]:
    """Whether a role can have something of its own run with the rights of another."""
    if examination.definers:
        names = _listed([one.name for one in examination.definers])
        pins = "; ".join(one.pin for one in examination.definers)
        yield _warning("escalation", f"a role that may call {names} can run anything with its owner's rights: it looks "
                       "names up by its caller's search_path",
                       f"run `flowworker db install` as that owner, or: {pins}")  # fmt: skip
    for schema in examination.open_schemas:
        who = "PUBLIC" if schema.by_all else f'"{examination.role}"'
        yield _warning("escalation", f"{who} may create objects in schema {schema.name}, which others would take for "
                       "theirs", f"REVOKE CREATE ON SCHEMA {schema.name} FROM {who}")  # fmt: skip


def check_pooler(examination: Examination) -> Iterable[Finding]:
    """Whether a connection keeps its session, as LISTEN and prepared statements need it."""
    if examination.shares_sessions and examination.statement_cache:
        yield _error("pooler", "a pooler in transaction mode loses prepared statements, and the statement cache is on",
                     "set FLOWWORKER_STATEMENT_CACHE=false")  # fmt: skip
    if not examination.listen_works or examination.shares_sessions:
        what = "a pooler in transaction mode" if examination.shares_sessions else "something, perhaps a pooler,"
        yield _warning("pooler", f"{what} stands before this database: LISTEN does not work through it",
                       "give the worker a direct connection string as well (FLOWWORKER_DIRECT_DATABASE_URL), or use "
                       "the polling strategy")  # fmt: skip


def check_clock(examination: Examination) -> Iterable[Finding]:
    """Whether this machine and the database agree on the time."""
    skew = examination.clock_skew
    if abs(skew) > WORST_SKEW:
        yield _warning("clock", f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the "
                       "database's", "work is safe, times in logs will not match: synchronise the clocks")  # fmt: skip


def check_connections(examination: Examination) -> Iterable[Finding]:
    """Whether the server has room for more workers."""
    used, limit = examination.connections, examination.connection_limit
    if used >= limit * FULL_CONNECTIONS:
        yield _warning("connections", f"{used} of {limit} connections are in use",
                       "a worker process takes three: raise max_connections, use a pooler, or serve several flows "
                       "in one process")  # fmt: skip


def check_vacuum(examination: Examination) -> Iterable[Finding]:
    """Whether something keeps dead rows from being removed."""
    if examination.longest_transaction > WORST_TRANSACTION:
        yield _warning("vacuum", f"a transaction is open for {examination.longest_transaction:.0f} s",
                       "queues bloat while it lasts: find it in pg_stat_activity and end it")  # fmt: skip
    if examination.oldest_xmin_age > WORST_XMIN_AGE:
        yield _warning("vacuum", f"the oldest snapshot is {examination.oldest_xmin_age} transactions old",
                       "queues bloat until it ends: see backend_xmin in pg_stat_activity")  # fmt: skip
    if examination.oldest_slot_age > WORST_XMIN_AGE:
        yield _warning("vacuum", f"a replication slot holds back {examination.oldest_slot_age} transactions",
                       "queues bloat until its consumer catches up: see pg_replication_slots")  # fmt: skip


def check_bloat(examination: Examination) -> Iterable[Finding]:
    """Whether the tables behind the queues are swollen, or will be."""
    for table in examination.tables:
        if table.dead > max(MANY_DEAD, 2 * table.live):
            yield _warning("bloat", f"pgmq.{table.name} has {table.dead} dead rows beside {table.live} live ones",
                           f"VACUUM pgmq.{table.name}; ALTER TABLE pgmq.{table.name} SET "
                           "(autovacuum_vacuum_scale_factor = 0.01)")  # fmt: skip
        if table.live > BUSY_LIVE and table.fillfactor > GOOD_FILLFACTOR:
            yield _warning("bloat", f"pgmq.{table.name} is large and its pages are filled completely",
                           f"ALTER TABLE pgmq.{table.name} SET (fillfactor = 70)")  # fmt: skip


def check_notify(examination: Examination) -> Iterable[Finding]:
    """Whether queues that notify do so; a queue that was never set up for it is fine."""
    quiet = (NotifyStatus.READY, NotifyStatus.NO_TRIGGER, NotifyStatus.UPPER_CASE, NotifyStatus.NO_FUNCTION)
    for state in examination.notify.values():
        if state.status not in quiet:
            yield _warning("notify", state.message, state.command)


def check_flows(examination: Examination) -> Iterable[Finding]:
    """Whether the flows given are in the database as the code has them."""
    for slug, problems in examination.flow_problems.items():
        for problem in problems:
            yield _error("flows", f"flow {slug!r}: {problem}",
                         "run `flowworker flows compile`, or give a changed flow a new slug")  # fmt: skip
    for slug, changes in examination.flow_options.items():
        for change in changes:
            yield _warning("flows", f"flow {slug!r}: {change}", f"the database's is in force; {REMEDY}")
    for slug in examination.split_flows:
        yield _error("flows", f"flow {slug!r} has a queue for each step, which no worker of FlowWorker serves",
                     "serve it with pgflow's own workers, or compile it under a new slug with one queue for all "
                     "steps, as `flowworker flows compile` does")  # fmt: skip


def check_requeue(examination: Examination) -> Iterable[Finding]:
    """Whether pgflow's own pg_cron job gives away tasks that run: up to core 0.15.0 it asks only the flow."""
    found = examination.capabilities
    if not (found.cron and found.requeue_stalled_tasks and not found.cancelled_tasks):
        return
    for step in examination.outlasting_steps:
        yield _warning("requeue", f"step {step.step_slug!r} of flow {step.flow_slug!r} may run for {step.timeout} s, "
                       f"but pgflow's job requeue_stalled_tasks starts its tasks again {step.flow_timeout} s and half "
                       "a minute after their start, while they run, and stalls them for good the fourth time",
                       f"give the flow a timeout of {step.timeout} s, or unschedule the job, which FlowWorker does not "
                       "need, or use a core from 0.15.1 on")  # fmt: skip


def check_slugs(examination: Examination) -> Iterable[Finding]:
    """Whether core 0.17 takes the names that are in the database."""
    for names in _alike(examination.slugs):
        yield _warning("slugs", f"flows {names} differ only in case, and core 0.17's migration stops there",
                       "delete all but one of them before that migration")  # fmt: skip
    for flow, steps in examination.slugs.items():
        for names in _alike(steps):
            yield _warning("slugs", f"steps {names} of flow {flow!r} differ only in case, and core 0.17's migration "
                           "stops there", "give the flow a new slug and its steps others, and delete this one before "
                           "that migration")  # fmt: skip
        for slug in (flow, *steps):
            if advice := slug_advice(slug):
                yield _warning("slugs", f"slug {slug!r} of flow {flow!r}: {advice}",
                               "runs go on there, but nothing of the flow can be changed: give it a new slug before "
                               "that migration")  # fmt: skip


def check_workers(examination: Examination) -> Iterable[Finding]:
    """Whether workers vanished unnoticed, or take the messages of a flow for jobs."""
    for name, slug in examination.shared_queues:
        yield _error("workers", f"worker {name!r} serves {slug!r} as a queue of jobs, but it is the queue of a flow, "
                     "whose messages it archives", "stop that worker and give its queue another name")  # fmt: skip
    for worker in examination.stale_workers:
        yield _warning("workers", f"worker {worker.worker_name!r} of {worker.slug!r} is silent for "
                       f"{worker.silence:.0f} s", f"start a worker for {worker.slug!r}: it takes over")  # fmt: skip


def check_leftovers(examination: Examination) -> Iterable[Finding]:
    """Whether there is work left that no worker will do."""
    for slug, count in examination.ownerless.items():
        yield _warning("leftovers", f"flow {slug!r} has {count} started tasks whose worker is gone",
                       f"start a worker for {slug!r}: it gives them back")  # fmt: skip
    for slug, count in examination.foreign_messages.items():
        yield _warning("leftovers", f"the queue of flow {slug!r} holds {count} messages that belong to no task",
                       f"look at them in the queue {slug!r} and archive them with pgmq.archive")  # fmt: skip


CHECKS: Mapping[str, Check] = {
    "server": check_server,
    "schema": check_schema,
    "rights": check_rights,
    "escalation": check_escalation,
    "pooler": check_pooler,
    "clock": check_clock,
    "connections": check_connections,
    "vacuum": check_vacuum,
    "bloat": check_bloat,
    "notify": check_notify,
    "flows": check_flows,
    "requeue": check_requeue,
    "slugs": check_slugs,
    "workers": check_workers,
    "leftovers": check_leftovers,
}


def _alike(slugs: Iterable[str]) -> list[str]:
    """Slugs that differ only in case, as a list in words."""
    groups: dict[str, list[str]] = {}
    for slug in slugs:
        groups.setdefault(slug.lower(), []).append(slug)
    return [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]


def _listed(functions: Sequence[str]) -> str:
    more = f" and {len(functions) - SHOWN} more" if len(functions) > SHOWN else ""
    return ", ".join(functions[:SHOWN]) + more


def _warning(check: str, found: str, advice: str | None) -> Finding:
    return Finding(level=Level.WARNING, check=check, found=found, advice=advice)


def _error(check: str, found: str, advice: str) -> Finding:
    return Finding(level=Level.ERROR, check=check, found=found, advice=advice)
