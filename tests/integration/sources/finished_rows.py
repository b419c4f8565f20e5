"""A flow with a history: a million finished runs behind the few that wait or run.

Rows are written past triggers and indexes, which are built afterwards: that takes a tenth of the time. They are what
pgflow's and pgmq's functions would have left.
"""

from dataclasses import dataclass
from uuid import UUID, uuid4

from tests.conftest import Database
from tests.integration.sources.flows import one_step
from tests.integration.sources.world import World, a_world

from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection, connect

MILLION = 1_000_000
FEW = 20_000
"""Finished runs where statistics only say that there are a million."""

WAITING = 20_000
RUNNING = 50

TABLES = ("pgflow.runs", "pgflow.step_states", "pgflow.step_tasks", "pgmq.q_one_step", "pgmq.a_one_step")
"""Those that grow with the runs."""

WORKERS = "md5('worker' || n % 100)::uuid"
RUN = "md5('run' || n)::uuid"

WITHOUT_INDEXES = """
    UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid = ANY($1::text[]::regclass[])
"""
"""REINDEX makes them ready, and valid."""

HISTORY = (
    "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) "
    f"SELECT {WORKERS}, 'one_step', 'py:one_step' FROM generate_series(1, least($1::integer, 100)) AS n",
    "INSERT INTO pgflow.runs (flow_slug, run_id, status, input, output, remaining_steps, started_at, completed_at, "
    f"failed_at) SELECT 'one_step', {RUN}, state, '{{}}', CASE state WHEN 'completed' THEN '{{}}'::jsonb END, "
    "(state <> 'completed')::integer, ended - interval '2 s', CASE state WHEN 'completed' THEN ended END, "
    "CASE state WHEN 'failed' THEN ended END FROM {ended}",
    "INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, status, remaining_deps, initial_tasks, "
    "remaining_tasks, created_at, started_at, completed_at, failed_at) "
    f"SELECT 'one_step', {RUN}, 'only', state, 0, 1, (state <> 'completed')::integer, ended - interval '2 s', "
    "ended - interval '2 s', CASE state WHEN 'completed' THEN ended END, CASE state WHEN 'failed' THEN ended END "
    "FROM {ended}",
    "INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count, "
    "output, error_message, queued_at, started_at, completed_at, failed_at, last_worker_id{queue_column}) "
    f"SELECT 'one_step', {RUN}, 'only', 0, n, state, 1, CASE state WHEN 'completed' THEN '1'::jsonb END, "
    "CASE state WHEN 'failed' THEN 'boom' END, ended - interval '2 s', ended - interval '1 s', "
    f"CASE state WHEN 'completed' THEN ended END, CASE state WHEN 'failed' THEN ended END, {WORKERS}{{queue_value}} "
    "FROM {ended}",
    "INSERT INTO pgmq.a_one_step (msg_id, read_ct, enqueued_at, archived_at, vt, message) "
    "SELECT n, 1, ended - interval '2 s', ended, ended, jsonb_build_object('flow_slug', 'one_step', 'run_id', "
    f"{RUN}, 'step_slug', 'only', 'task_index', 0) FROM {{ended}}",
    "SELECT setval(pg_get_serial_sequence('pgmq.q_one_step', 'msg_id'), $1::integer)",
)
"""What runs have left that ended one second after the other, one in a hundred by failing."""

ENDED = """
    (
        SELECT
            n,
            now() - ($1::integer - n) * interval '1 second' AS ended,
            CASE n % 100 WHEN 0 THEN 'failed' ELSE 'completed' END AS state
        FROM generate_series(1, $1::integer) AS n
    ) AS history
"""

OPEN = (
    "INSERT INTO pgflow.runs (flow_slug, input, remaining_steps, run_id) "
    f"SELECT 'one_step', '{{}}', 1, {RUN} FROM generate_series($1::bigint + 1, $1 + $2::bigint) AS n",
    "INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, remaining_tasks, "
    f"status, started_at) SELECT 'one_step', {RUN}, 'only', 0, 1, 1, 'started', now() "
    "FROM generate_series($1::bigint + 1, $1 + $2::bigint) AS n",
    "SELECT count(*) FROM pgmq.send_batch('one_step', (SELECT array_agg(jsonb_build_object('flow_slug', 'one_step', "
    f"'run_id', {RUN}, 'step_slug', 'only', 'task_index', 0) ORDER BY n) "
    "FROM generate_series($1::bigint + 1, $1 + $2::bigint) AS n))",
    "INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count) "
    f"SELECT 'one_step', {RUN}, 'only', 0, n, 'queued', 0 FROM generate_series($1::bigint + 1, $1 + $2::bigint) AS n",
)
START = (
    "UPDATE pgflow.step_tasks SET status = 'started', attempts_count = 1, started_at = now(), "
    "last_worker_id = $3::uuid WHERE message_id BETWEEN $1::bigint + 1 AND $1 + $2::bigint",
    "UPDATE pgmq.q_one_step SET vt = now() + interval '1 hour' "
    "WHERE msg_id BETWEEN $1::bigint + 1 AND $1 + $2::bigint AND $3::uuid IS NOT NULL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A database with a history."""

    database: Database
    worker_id: UUID
    """Of the tasks that run."""
    first: int
    """Id of the first message in the queue; the task behind it runs."""


async def grow(database: Database, *, finished: int) -> Grown:
    """Give a new database so many finished runs, and statistics of a million."""
    async with a_world(database) as world:
        await world.create(one_step)
        await _write_history(world, finished)
        worker_id = uuid4()
        await world.register(worker_id, slug="one_step")
        for statement in OPEN:
            await world.owner.execute(statement, finished, WAITING)
        for statement in START:
            await world.owner.execute(statement, finished, RUNNING, worker_id)
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute("VACUUM (ANALYZE)")
    if finished < MILLION:
        await _pretend(superuser, MILLION / finished)
    await superuser.close()
    return Grown(database=database, worker_id=worker_id, first=finished + 1)


async def _write_history(world: World, finished: int) -> None:
    has_queues = (await detect(world.owner)).queue_columns
    parts = {
        "{ended}": ENDED,
        "{queue_column}": ", queue_name" if has_queues else "",
        "{queue_value}": ", 'one_step'" if has_queues else "",
    }
    superuser = await connect(world.database.superuser_dsn, application_name="test")
    async with superuser.transaction():
        await superuser.execute("SET LOCAL session_replication_role = replica")
        await superuser.execute("SET LOCAL maintenance_work_mem = '256MB'")
        await superuser.execute(WITHOUT_INDEXES, list(TABLES))
        for statement in HISTORY:
            for part, text in parts.items():
                statement = statement.replace(part, text)
            await superuser.execute(statement, finished)
        for table in TABLES:
            await superuser.execute(f"REINDEX TABLE {table}")
    await superuser.close()


async def _pretend(superuser: Connection, factor: float) -> None:
    """Let the planner think that the tables that keep what is finished have so many times the rows.

    It multiplies the rows for each page by the pages that there are; shares of values, and sizes of partial indexes,
    which hold what is not finished, stay as they are.
    """
    await superuser.execute(
        "UPDATE pg_class SET reltuples = reltuples * $2::float8 WHERE oid = ANY($1::text[]::regclass[])",
        [table for table in TABLES if table != "pgmq.q_one_step"], factor,
    )  # fmt: skip
