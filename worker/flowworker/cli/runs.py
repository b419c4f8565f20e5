"""`flowworker runs`: start, list, show, watch, retry and cancel runs."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from flowworker.cli.options import (
    Actor,
    Dsn,
    DsnFile,
    Limit,
    OutputOption,
    Reason,
    actor_or_login,
    run_uuid,
    with_client,
)
from flowworker.cli.output import Output, as_json, note, say, show
from flowworker.cli.references import flow_or_slug
from flowworker.cli.runs_view import cancelled_text, run_columns, run_text, stuck_columns
from flowworker.cli.values import json_text, moment, parts_of_input
from flowworker.cli.watching import watch as watch_run
from flowworker.client import Client
from flowworker.database.records import RunStatus
from flowworker.database.run_search import SEARCH_TIMEOUT
from flowworker.database.runs import Run
from flowworker.database.stuck_runs import UNSERVED_FOR

RUN_NOT_COMPLETED = 1
"""Exit code when the run that was waited for failed, or did not end in time."""

group = typer.Typer(help="Start, list, show, watch, retry and cancel runs.", rich_markup_mode=None)

RunId: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", "-w", help="Watch the run until it ends; 1 if it fails.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="runs")


@group.command()
def start(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="Slug of a flow, or MODULE:OBJECT to check the input.")],
    run_input: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON", help="Input: JSON, @FILE, or - for standard input.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="UUID", help="Start at most one run under this id.")
    ] = None,
    wait: Wait = False,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Start a run of FLOW and print its id."""
    target = flow_or_slug(flow)
    value = json_text(run_input, "--input")
    chosen = None if run_id is None else run_uuid(run_id)

    async def work(client: Client) -> int:
        return await _started(client, await client.start(target, value, run_id=chosen), wait, output)

    return with_client(dsn, database_file, work)


@group.command()
def retry(
    run: RunId,
    wait: Wait = False,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Start a new run like RUN and print its id.

    With the same flow and input. RUN must have ended, and stays as it is. Repeating the command starts nothing more
    and prints the same id.
    """
    run_id = run_uuid(run)

    async def work(client: Client) -> int:
        again = await client.retry(run_id)
        if again.has_ended:
            note(f"run {run_id} was retried before, as {again.run_id}, which is {again.status}")
        return await _started(client, again, wait, output)

    return with_client(dsn, database_file, work)


@group.command()
def cancel(
    run: RunId,
    reason: Reason = None,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Cancel RUN, which is under way.

    Its open tasks end and it fails, with who cancelled it and why as its error. Handlers of its tasks are notified
    within five seconds. Repeating the command changes nothing more.
    """
    run_id = run_uuid(run)

    async def work(client: Client) -> None:
        cancelled = await client.cancel_run(run_id, reason=reason, actor=actor_or_login(actor))
        say(as_json(cancelled) if output is Output.JSON else cancelled_text(cancelled))

    with_client(dsn, database_file, work)


@group.command("list")
def list_(
    flow: Annotated[str | None, typer.Option("--flow", metavar="SLUG", help="Only runs of this flow.")] = None,
    status: Annotated[RunStatus | None, typer.Option("--status", help="Only runs of this status.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only runs started since then: 24h, 7d, 2026-01-31T08:30."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only runs started before then, given likewise.")
    ] = None,
    error: Annotated[
        str | None, typer.Option("--error", metavar="TEXT", help="Only runs that failed with this in the error.")
    ] = None,
    id_prefix: Annotated[
        str | None, typer.Option("--id", metavar="PREFIX", help="Only runs whose id begins so.")
    ] = None,
    run_input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="PATH=VALUE",
            help="Only runs with this in the input: customer.id=7, items.0=a. Repeat for several.",
        ),
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="RUN", help="Go on behind this run: the next page.")
    ] = None,
    limit: Limit = 50,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="End the search after this long.")
    ] = SEARCH_TIMEOUT,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """List runs, newest first.

    Quick are searches by flow, status failed, time and id. Others may have to read many runs, and are ended after
    --timeout.
    """
    now = datetime.now(UTC)
    started_since, started_before = moment(since, "--since", now), moment(until, "--until", now)
    wanted = parts_of_input(run_input or ())
    last = None if after is None else run_uuid(after)

    async def work(client: Client) -> None:
        runs = await client.runs(
            flow=flow, status=status, since=started_since, until=started_before, error=error, id_prefix=id_prefix,
            input=wanted, oldest_first=oldest_first, after=last, limit=limit + 1, timeout=timeout,
        )  # fmt: skip
        show(run_columns(now), runs[:limit], output)
        if len(runs) > limit:
            order = "oldest" if oldest_first else "newest"
            note(f"these are the {order} {limit}; there are more: add --after {runs[limit - 1].run_id}, or --limit")

    with_client(dsn, database_file, work)


@group.command()
def stuck(
    flow: Annotated[str | None, typer.Option("--flow", metavar="SLUG", help="Only runs of this flow.")] = None,
    unserved_for: Annotated[
        float,
        typer.Option("--unserved-for", min=0, metavar="SECONDS", help="How long a flow must have had no worker."),
    ] = UNSERVED_FOR,
    limit: Limit = 50,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="End the search after this long.")
    ] = SEARCH_TIMEOUT,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """List runs that will not go on by themselves, and why.

    No worker serves the flow, a task's message is gone, pgflow has given a task up, or no task is open.
    """

    async def work(client: Client) -> None:
        found = await client.stuck_runs(flow=flow, unserved_for=unserved_for, limit=limit, timeout=timeout)
        show(stuck_columns(datetime.now(UTC)), found, output)

    with_client(dsn, database_file, work)


@group.command("show")
def show_(
    run: RunId,
    tasks: Annotated[int, typer.Option("--tasks", min=0, max=100_000, help="How many tasks to read.")] = 100,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Show RUN with its steps, tasks and output.

    Of the tasks, those that failed, are at work, or needed more than one attempt.
    """
    run_id = run_uuid(run)

    async def work(client: Client) -> None:
        details = await client.run(run_id, tasks=tasks)
        say(as_json(details) if output is Output.JSON else run_text(details, datetime.now(UTC)))

    with_client(dsn, database_file, work)


@group.command()
def watch(
    run: RunId,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up after this long.")
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Show the steps of RUN as they move, until it ends.

    Exit code 1 when it fails, or does not end in time.
    """
    run_id = run_uuid(run)

    async def work(client: Client) -> int:
        return await _watched(client, run_id, output, timeout)

    return with_client(dsn, database_file, work)


async def _started(client: Client, run: Run, wait: bool, output: Output) -> int:
    if wait and output is Output.TABLE:
        say(str(run.run_id))
    if wait:
        return await _watched(client, run.run_id, output, None)
    say(as_json(run) if output is Output.JSON else str(run.run_id))
    return 0


async def _watched(client: Client, run_id: UUID, output: Output, limit: float | None) -> int:
    try:
        async with asyncio.timeout(limit):
            match output:
                case Output.TABLE:
                    run = (await watch_run(client, run_id)).run
                case Output.JSON:
                    run = await client.wait(run_id)
                    say(as_json(run))
    except TimeoutError:
        note(f"error: run {run_id} has not ended within {limit:g} s")
        return RUN_NOT_COMPLETED
    return 0 if run.status is RunStatus.COMPLETED else RUN_NOT_COMPLETED
