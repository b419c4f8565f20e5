"""A big backlog in no time: what pgflow's and pgmq's functions would have written, in one statement for each table."""

from flowworker.database.connection import Connection

RUN = "md5($1 || '_' || n)::uuid"

FLOW = (
    "SELECT pgflow.create_flow($1), pgflow.add_step($1, 'only'), $2::bigint",
    "INSERT INTO pgflow.runs (flow_slug, input, remaining_steps, run_id) "
    f"SELECT $1, '{{}}', 1, {RUN} FROM generate_series(1, $2::bigint) n",
    "INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, remaining_tasks, "
    f"status, started_at) SELECT $1, {RUN}, 'only', 0, 1, 1, 'started', now() FROM generate_series(1, $2::bigint) n",
    "INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count) "
    f"SELECT $1, {RUN}, 'only', 0, n, 'queued', 0 FROM generate_series(1, $2::bigint) n",
    "SELECT count(*) FROM pgmq.send_batch($1, (SELECT array_agg(jsonb_build_object("
    f"'flow_slug', $1, 'run_id', {RUN}, 'step_slug', 'only', 'task_index', 0)) FROM generate_series(1, $2::bigint) n))",
)
QUEUE = (
    "SELECT pgmq.create($1), $2::bigint",
    "SELECT count(*) FROM pgmq.send_batch($1, (SELECT array_agg('{}'::jsonb) FROM generate_series(1, $2::bigint) n))",
)


async def fill_flow(owner: Connection, slug: str, tasks: int) -> None:
    """A flow with this many runs of one queued task each."""
    for statement in FLOW:
        await owner.execute(statement.replace("$1", "$1::text"), slug, tasks)


async def fill_queue(owner: Connection, name: str, jobs: int) -> None:
    """A queue with this many visible jobs."""
    for statement in QUEUE:
        await owner.execute(statement.replace("$1", "$1::text"), name, jobs)
