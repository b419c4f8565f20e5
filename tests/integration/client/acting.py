"""What a worker would do to a run, by hand."""

import orjson

from flowworker.database.connection import Connection
from flowworker.database.runs import Run

LISTENING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'flowworker-client' AND query LIKE 'LISTEN%' AND datname = current_database()
"""
"""How many connections of clients listen for runs that move; seen by their own role."""

START = """
    WITH worker AS (
        INSERT INTO pgflow.workers (worker_id, queue_name, function_name)
        VALUES ('00000000-0000-0000-0000-000000000001', 'test', 'test')
        ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat_at = now() RETURNING worker_id
    )
    UPDATE pgflow.step_tasks SET status = 'started', started_at = now(), attempts_count = 1,
        last_worker_id = (SELECT worker_id FROM worker)
    WHERE run_id = $1 AND step_slug = $2 AND task_index = $3
"""


async def complete(connection: Connection, run: Run, step: str, output: object, *, index: int = 0) -> None:
    """Start and complete one task."""
    await connection.execute(START, run.run_id, step, index)
    await connection.execute(
        "SELECT pgflow.complete_task($1, $2, $3, $4)", run.run_id, step, index, orjson.dumps(output)
    )


async def fail(connection: Connection, run: Run, step: str, error: str, *, index: int = 0) -> None:
    """Start and fail one task."""
    await connection.execute(START, run.run_id, step, index)
    await connection.execute("SELECT pgflow.fail_task($1, $2, $3, $4)", run.run_id, step, index, error)


async def take_job(connection: Connection, queue: str) -> None:
    """Claim one job as a worker does."""
    await connection.execute("SELECT pgmq.read($1, 15, 1)", queue)


async def end_job(connection: Connection, queue: str, job_id: int, **outcome: object) -> None:
    """Archive a job with what became of it."""
    await connection.execute("SELECT pgmq.archive($1, $2::bigint)", queue, job_id)
    await connection.execute(
        f"UPDATE pgmq.a_{queue} SET headers = coalesce(headers, '{{}}') || $2 WHERE msg_id = $1",
        job_id,
        orjson.dumps({"flowworker": outcome}),
    )
