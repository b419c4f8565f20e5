"""`flowworker runs`: start, list, show, watch, retry and cancel runs."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from flowworker.cli.bulk_runs import act_on_many
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
from flowworker.database.bulk import BulkAction
from flowworker.database.records import RunStatus
from flowworker.database.run_search import SEARCH_TIMEOUT, RunFilter
from flowworker.database.runs import Run
from flowworker.database.stuck_runs import UNSERVED_FOR
from flowworker.errors import UsageError

RUN_NOT_COMPLETED = 1
"""Exit code when the run that was waited for failed, or did not end in time."""

group = typer.Typer(help="Start, list, show, watch, retry and cancel runs.", rich_markup_mode=None)

RunId: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
OneRun: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="Id of the run; without it, options say which runs.")
]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", "-w", help="Watch the run until it ends; 1 if it fails.")]
OfFlow: TypeAlias = Annotated[str | None, typer.Option("--flow", metavar="SLUG", help="Only runs of this flow.")]
Since: TypeAlias = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only runs started since then: 24h, 7d, 2026-01-31T08:30."),
]
Until: TypeAlias = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only runs started before then, given likewise.")
]
ErrorPart: TypeAlias = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only runs that failed with this in the error.")
]
IdPrefix: TypeAlias = Annotated[
    str | None, typer.Option("--id", metavar="PREFIX", help="Only runs whose id begins so.")
]
InputParts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="PATH=VALUE",
        help="Only runs with this in the input: customer.id=7, items.0=a. Repeat for several.",
    ),
]
Timeout: TypeAlias = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="End the search after this long.")
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Of many runs: count and show some, no more.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Of many runs: do not ask.")]


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
    run: OneRun = None,
    wait: Wait = False,
    failed: Annotated[bool, typer.Option("--failed", help="Retry all failed runs that the options find.")] = False,
    flow: OfFlow = None,
    since: Since = None,
    until: Until = None,
    error: ErrorPart = None,
    id_prefix: IdPrefix = None,
    run_input: InputParts = None,
    reason: Reason = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: Timeout = SEARCH_TIMEOUT,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Start a new run like RUN, or like each of many that failed.

    With the same flow and input. RUN must have ended, and stays as it is; the id of the new run is printed. Repeating
    the command starts nothing more and prints the same id.

    With --failed: shows how many runs that are, and some of them, and asks. Leaves out what was cancelled or retried
    before. Repeat the command when it was interrupted: each run is retried once.
    """
    which = _which(flow, since, until, error, id_prefix, run_input)
    if failed:
        if run is not None or wait:
            raise UsageError("--failed is for many runs: give it without RUN and --wait")

        async def many(client: Client) -> int:
            return await act_on_many(
                client, BulkAction.RETRY, which,
                reason=reason, actor=actor, dry_run=dry_run, yes=yes, timeout=timeout, output=output,
            )  # fmt: skip

        return with_client(dsn, database_file, many)
    if run is None or which != RunFilter() or reason or actor or dry_run or yes:
        raise UsageError("name the RUN, or add --failed to retry all failed runs that the options find")
    run_id = run_uuid(run)

    async def work(client: Client) -> int:
        again = await client.retry(run_id)
        if again.has_ended:
            note(f"run {run_id} was retried before, as {again.run_id}, which is {again.status}")
        return await _started(client, again, wait, output)

    return with_client(dsn, database_file, work)


@group.command()
def cancel(
    run: OneRun = None,
    flow: OfFlow = None,
    since: Since = None,
    until: Until = None,
    id_prefix: IdPrefix = None,
    run_input: InputParts = None,
    reason: Reason = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: Timeout = SEARCH_TIMEOUT,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Cancel RUN, or all runs under way that the options find.

    Its open tasks end and it fails, with who cancelled it and why as its error. Handlers of its tasks are notified
    within five seconds. Repeating the command changes nothing more.

    Of many runs it shows how many they are, and some of them, and asks. Repeat the command when it was interrupted.
    """
    which = _which(flow, since, until, None, id_prefix, run_input)
    if run is None:
        if which == RunFilter():
            raise UsageError("name the RUN, or say which runs with --flow, --since, --until, --id or --input")

        async def many(client: Client) -> int:
            return await act_on_many(
                client, BulkAction.CANCEL, which,
                reason=reason, actor=actor, dry_run=dry_run, yes=yes, timeout=timeout, output=output,
            )  # fmt: skip

        return with_client(dsn, database_file, many)
    if which != RunFilter() or dry_run or yes:
        raise UsageError("give either the RUN or options that say which runs")
    run_id = run_uuid(run)

    async def work(client: Client) -> int:
        cancelled = await client.cancel_run(run_id, reason=reason, actor=actor_or_login(actor))
        say(as_json(cancelled) if output is Output.JSON else cancelled_text(cancelled))
        return 0

    return with_client(dsn, database_file, work)


@group.command("list")
def list_(
    flow: OfFlow = None,
    status: Annotated[RunStatus | None, typer.Option("--status", help="Only runs of this status.")] = None,
    since: Since = None,
    until: Until = None,
    error: ErrorPart = None,
    id_prefix: IdPrefix = None,
    run_input: InputParts = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="RUN", help="Go on behind this run: the next page.")
    ] = None,
    limit: Limit = 50,
    timeout: Timeout = SEARCH_TIMEOUT,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """List runs, newest first.

    Quick are searches by flow, status failed, time and id. Others may have to read many runs, and are ended after
    --timeout.
    """
    now = datetime.now(UTC)
    which = _which(flow, since, until, error, id_prefix, run_input)
    last = None if after is None else run_uuid(after)

    async def work(client: Client) -> None:
        runs = await client.runs(
            flow=flow, status=status, since=which.since, until=which.until, error=error, id_prefix=id_prefix,
            input=which.input, oldest_first=oldest_first, after=last, limit=limit + 1, timeout=timeout,
        )  # fmt: skip
        show(run_columns(now), runs[:limit], output)
        if len(runs) > limit:
            order = "oldest" if oldest_first else "newest"
            note(f"these are the {order} {limit}; there are more: add --after {runs[limit - 1].run_id}, or --limit")

    with_client(dsn, database_file, work)


@group.command()
def stuck(
    flow: OfFlow = None,
    unserved_for: Annotated[
        float,
        typer.Option("--unserved-for", min=0, metavar="SECONDS", help="How long a flow must have had no worker."),
    ] = UNSERVED_FOR,
    limit: Limit = 50,
    timeout: Timeout = SEARCH_TIMEOUT,
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


def _which(
    flow: str | None,
    since: str | None,
    until: str | None,
    error: str | None,
    id_prefix: str | None,
    run_input: list[str] | None,
) -> RunFilter:
    return RunFilter(
        flow_slug=flow,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        error=error,
        id_prefix=id_prefix,
        input=parts_of_input(run_input or ()),
    )


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
