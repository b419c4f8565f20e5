"""`flowworker jobs`: send, list, show, retry and cancel jobs of plain queues."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer

from flowworker.cli.jobs_view import cancelled_text, job_columns, job_text
from flowworker.cli.options import Actor, Dsn, DsnFile, Limit, OutputOption, Reason, actor_or_login, with_client
from flowworker.cli.output import Output, as_json, say, show
from flowworker.cli.references import queue_or_name
from flowworker.cli.values import headers, json_text
from flowworker.client import Client
from flowworker.database.jobs_admin import JobState

LONGEST_DELAY = 10 * 365 * 86400
"""Seconds."""

group = typer.Typer(help="Send, list, show, retry and cancel jobs of plain queues.", rich_markup_mode=None)

QueueName: TypeAlias = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]
JobId: TypeAlias = Annotated[int, typer.Argument(metavar="JOB", min=1, help="Id of the job within its queue.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="jobs")


@group.command()
def send(
    queue: Annotated[
        str, typer.Argument(metavar="QUEUE", help="Name of the queue, or MODULE:OBJECT to check the payload.")
    ],
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", metavar="JSON", help="JSON, @FILE, or - for standard input.")
    ] = None,
    delay: Annotated[
        int, typer.Option("--delay", min=0, max=LONGEST_DELAY, metavar="SECONDS", help="Not before this long from now.")
    ] = 0,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="Repeat for several.")
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Send one job to QUEUE and print its id."""
    target = queue_or_name(queue)
    value = json_text(payload, "--payload")
    extra = headers(header or [])

    async def work(client: Client) -> None:
        _say_id(await client.send(target, value, delay=delay, headers=extra), output)

    with_client(dsn, database_file, work)


@group.command("list")
def list_(
    queue: QueueName,
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """List the jobs of QUEUE, newest first.

    Waiting, delayed and running ones, and those that have ended.
    """

    async def work(client: Client) -> None:
        show(job_columns(datetime.now(UTC)), await client.jobs(queue, state=state, limit=limit), output)

    with_client(dsn, database_file, work)


@group.command("show")
def show_(
    queue: QueueName, job: JobId, output: OutputOption = Output.TABLE, dsn: Dsn = None, database_file: DsnFile = None
) -> None:
    """Show one job of QUEUE in full.

    With its payload, its result or error, and the stack trace.
    """

    async def work(client: Client) -> None:
        found = await client.job(queue, job)
        say(as_json(found) if output is Output.JSON else job_text(found))

    with_client(dsn, database_file, work)


@group.command()
def retry(
    queue: QueueName, job: JobId, output: OutputOption = Output.TABLE, dsn: Dsn = None, database_file: DsnFile = None
) -> None:
    """Send a failed or cancelled job again, and print the new one's id.

    Repeating the command sends nothing more and prints the same id.
    """

    async def work(client: Client) -> None:
        _say_id(await client.retry_job(queue, job), output)

    with_client(dsn, database_file, work)


@group.command()
def cancel(
    queue: QueueName,
    job: JobId,
    reason: Reason = None,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Cancel a job of QUEUE that waits or runs.

    It is archived as cancelled, with who cancelled it and why. A handler that has it is notified within five seconds.
    Repeating the command changes nothing more.
    """

    async def work(client: Client) -> None:
        cancelled = await client.cancel_job(queue, job, reason=reason, actor=actor_or_login(actor))
        say(as_json(cancelled) if output is Output.JSON else cancelled_text(cancelled))

    with_client(dsn, database_file, work)


def _say_id(job: int, output: Output) -> None:
    say(as_json({"msg_id": job}) if output is Output.JSON else str(job))
