"""`flowworker workers`: list, drain and resume workers."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from flowworker.cli.draining import chosen, drain_and_wait
from flowworker.cli.draining import drain as ask_to_drain
from flowworker.cli.options import Dsn, DsnFile, OutputOption, with_client
from flowworker.cli.output import Column, Output, note, show, span, stamp
from flowworker.client import Client
from flowworker.database.workers_admin import WorkerReport

NOT_DRAINED = 1
"""Exit code when workers were still busy after --timeout."""

group = typer.Typer(help="List and drain workers.", rich_markup_mode=None)

COLUMNS: Sequence[Column[WorkerReport]] = (
    Column(title="WORKER", cell=lambda worker: worker.worker_id),
    Column(title="NAME", cell=lambda worker: worker.worker_name),
    Column(title="SERVES", cell=lambda worker: f"{worker.kind} {worker.slug}"),
    Column(title="STATE", cell=lambda worker: worker.state),
    # Not a fraction of each other: a task whose result is not written yet is held and takes no slot.
    Column(title="HELD", cell=lambda worker: worker.in_flight, right=True),
    Column(title="SLOTS", cell=lambda worker: worker.slots, right=True),
    Column(title="DONE", cell=lambda worker: worker.completed, right=True),
    Column(title="FAILED", cell=lambda worker: worker.failed, right=True),
    Column(title="SEEN", cell=lambda worker: f"{span(worker.age)} ago", right=True),
    Column(title="POD", cell=lambda worker: worker.pod_name),
    Column(title="DRAIN UNTIL", cell=lambda worker: stamp(worker.drain_until)),
    Column(title="LAST ERROR", cell=lambda worker: worker.last_error),
)

Targets: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="[WORKER]...", help="Worker ids, names, pods or pod uids.")
]
Slug: TypeAlias = Annotated[str | None, typer.Option("--slug", metavar="SLUG", help="Workers of this flow or queue.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="workers")


@group.command("list")
def list_(
    slug: Slug = None,
    ended: Annotated[bool, typer.Option("--all", help="Also those that stopped or were lost.")] = False,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """List workers as their last heartbeat described them.

    HELD counts the tasks of a worker: those that run, SLOTS at most, and those whose results are still to be written.
    """

    async def work(client: Client) -> None:
        show(COLUMNS, await client.workers(slug=slug, ended=ended), output)

    with_client(dsn, database_file, work)


@group.command()
def drain(
    targets: Targets = None,
    slug: Slug = None,
    seconds: Annotated[
        float, typer.Option("--for", min=1, max=86_400, metavar="SECONDS", help="Workers go on after this long.")
    ] = 30,
    reason: Annotated[str, typer.Option("--reason", help="Shown with the worker.")] = "asked on the command line",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Renew the request until nothing is in flight.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="With --wait: give up after this long.")
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Ask workers to finish what they hold and claim no more.

    The request lapses after a while; with --wait it is renewed until nothing is in flight.
    """

    async def work(client: Client) -> int:
        workers = chosen(await client.workers(), targets or [], slug)
        if not wait:
            await ask_to_drain(client, workers, seconds=seconds, reason=reason)
            return 0
        try:
            async with asyncio.timeout(timeout):
                show(COLUMNS, await drain_and_wait(client, workers, seconds=seconds, reason=reason), output)
        except TimeoutError:
            note(f"error: workers are still busy after {timeout:g} s; their drain lapses within {seconds:g} s")
            return NOT_DRAINED
        return 0

    return with_client(dsn, database_file, work)


@group.command()
def resume(targets: Targets = None, slug: Slug = None, dsn: Dsn = None, database_file: DsnFile = None) -> None:
    """Let draining workers go on at once."""

    async def work(client: Client) -> None:
        workers = chosen(await client.workers(), targets or [], slug)
        await client.resume([name for worker in workers for name in (str(worker.worker_id), worker.pod_uid) if name])

    with_client(dsn, database_file, work)
