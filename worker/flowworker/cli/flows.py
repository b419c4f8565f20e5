"""`flowworker flows`: list, compile, compare and draw flows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from flowworker.cli.options import Dsn, DsnFile, OutputOption, References, with_client, with_connection
from flowworker.cli.output import Column, Output, as_json, note, say, show
from flowworker.cli.references import flow_or_slug, load_all
from flowworker.client import Client
from flowworker.database.capabilities import detect
from flowworker.database.compile import (
    Compilation,
    Compiled,
    database_shape,
    ensure_compiled,
    ensure_queue,
    update_options,
)
from flowworker.database.connection import Connection
from flowworker.database.notify_setup import ensure_notify, notify_state
from flowworker.database.runs import FlowSummary
from flowworker.definition import graph as drawing
from flowworker.definition.flow import Flow
from flowworker.definition.loading import Workload, slug_of
from flowworker.definition.queue import Queue
from flowworker.definition.shape import FlowShape, differences, option_changes, shape_of
from flowworker.errors import ExitCode, UnknownFlowError
from flowworker.option_change import REMEDY, OptionChange

group = typer.Typer(help="List, compile, compare and draw flows.", rich_markup_mode=None)


class Drawing(StrEnum):
    """Forms of a graph."""

    TREE = "tree"
    MERMAID = "mermaid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one flow or queue."""

    kind: str
    name: str
    outcome: str
    options: Sequence[OptionChange]
    """What the database had otherwise than the code."""
    notify: str
    """Whether inserts wake workers, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a flow in code compares with the database's."""

    flow: str
    differences: Sequence[str]
    """Of the shape."""
    options: Sequence[OptionChange] = ()


FLOW_COLUMNS: Sequence[Column[FlowSummary]] = (
    Column(title="FLOW", cell=lambda flow: flow.flow_slug),
    Column(title="STEPS", cell=lambda flow: flow.steps, right=True),
    Column(title="ACTIVE RUNS", cell=lambda flow: flow.active_runs, right=True),
    Column(title="WORKERS", cell=lambda flow: flow.workers, right=True),
    Column(title="ATTEMPTS", cell=lambda flow: flow.max_attempts, right=True),
    Column(title="BASE DELAY", cell=lambda flow: f"{flow.base_delay}s", right=True),
    Column(title="TIMEOUT", cell=lambda flow: f"{flow.timeout}s", right=True),
)
OUTCOME_COLUMNS: Sequence[Column[Outcome]] = (
    Column(title="KIND", cell=lambda outcome: outcome.kind),
    Column(title="NAME", cell=lambda outcome: outcome.name),
    Column(title="OUTCOME", cell=lambda outcome: outcome.outcome),
    Column(title="OPTIONS", cell=lambda outcome: options_cell(outcome)),
    Column(title="NOTIFY", cell=lambda outcome: outcome.notify),
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="flows")


@group.command("list")
def list_(output: OutputOption = Output.TABLE, dsn: Dsn = None, database_file: DsnFile = None) -> None:
    """List the flows of the database."""

    async def work(client: Client) -> None:
        show(FLOW_COLUMNS, await client.flows(), output)

    with_client(dsn, database_file, work)


@group.command("compile")
def compile_(
    references: References,
    notify: Annotated[
        bool, typer.Option("--notify", help="Also make inserts wake workers that run with --signal-strategy notify.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update-options", help="Also give flows that are there the options they have in code.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing when all went well.")] = False,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Create the flows and queues that are missing.

    Run it as the owner of the database. A flow of another shape is never changed: it ends this with 65. Options that
    differ are named, and written with --update-options.
    """
    workloads = load_all(references)

    async def work(connection: Connection) -> list[Outcome]:
        return [await _compiled(connection, workload, notify=notify, update=update) for workload in workloads]

    outcomes = with_connection(dsn, database_file, work)
    if not quiet:
        show(OUTCOME_COLUMNS, outcomes, output)
    for outcome in outcomes:
        for line in option_lines(outcome):
            note(line)
    for advice in (advice for workload in workloads if isinstance(workload, Flow) for advice in workload.advice()):
        note(f"advice: {advice}")


@group.command()
def diff(
    references: References, output: OutputOption = Output.TABLE, dsn: Dsn = None, database_file: DsnFile = None
) -> int:
    """Say how flows in code differ from the database's.

    Exit code 65 when one has another shape, or is missing. Options that differ are shown and change no exit code: those
    of the database are in force.
    """
    flows = [workload for workload in load_all(references) if isinstance(workload, Flow)]

    async def work(connection: Connection) -> list[Comparison]:
        return [compare(shape_of(flow), await database_shape(connection, flow.slug)) for flow in flows]

    found = with_connection(dsn, database_file, work)
    say(as_json(found) if output is Output.JSON else "\n".join(map(comparison_text, found)))
    return ExitCode.DATA if any(comparison.differences for comparison in found) else ExitCode.DRAINED


@group.command()
def graph(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="MODULE:OBJECT, or the slug of a flow in the database.")],
    form: Annotated[Drawing, typer.Option("--format", "-f", help="Form of the drawing.")] = Drawing.TREE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Draw FLOW: its steps and what they wait for."""
    target = flow_or_slug(flow)

    async def work(connection: Connection) -> FlowShape:
        shape = await database_shape(connection, flow)
        if shape is None:
            raise UnknownFlowError(f"the database has no flow {flow!r}; see `flowworker flows list`")
        return shape

    shape = with_connection(dsn, database_file, work) if isinstance(target, str) else shape_of(target)
    match form:
        case Drawing.TREE:
            say(drawing.tree(shape))
        case Drawing.MERMAID:
            say(drawing.mermaid(shape))


def compare(code: FlowShape, database: FlowShape | None) -> Comparison:
    """How the flow in code compares; a missing flow is one difference."""
    if database is None:
        return Comparison(flow=code.slug, differences=("the database has no such flow",))
    return Comparison(
        flow=code.slug, differences=tuple(differences(code, database)), options=option_changes(code, database)
    )


def comparison_text(comparison: Comparison) -> str:
    """One flow's comparison in lines."""
    shape = "different" if comparison.differences else "same shape, other options" if comparison.options else "same"
    lines = [f"flow {comparison.flow}: {shape}", *(f"  - {found}" for found in comparison.differences)]
    lines += [f"  - {change}" for change in comparison.options]
    if comparison.options and not comparison.differences:
        lines.append(f"  The options in the database are in force; {REMEDY}.")
    return "\n".join(lines)


def options_cell(outcome: Outcome) -> str:
    """Whether the database has the code's options."""
    if outcome.kind != "flow":
        return "-"
    count = len(outcome.options)
    return "same" if not count else f"{count} updated" if outcome.outcome == Compiled.UPDATED else f"{count} differ"


def option_lines(outcome: Outcome) -> list[str]:
    """What is said of options that were updated, or are left as the database has them."""
    updated = outcome.outcome == Compiled.UPDATED
    return [f"flow {outcome.name!r}: {change}{', updated' if updated else ''}" for change in outcome.options] + (
        [f"the options in the database are in force; {REMEDY}"] if outcome.options and not updated else []
    )


async def _compiled(connection: Connection, workload: Workload, *, notify: bool, update: bool) -> Outcome:
    capabilities = await detect(connection)
    match workload:
        case Flow():
            kind, done = "flow", await ensure_compiled(connection, workload, capabilities)
            if done.changes and update:
                done = await update_options(connection, workload)
        case Queue():
            outcome = await ensure_queue(connection, workload, capabilities)
            kind, done = "queue", Compilation(outcome=outcome)
    name = slug_of(workload)
    state = await ensure_notify(connection, name) if notify else await notify_state(connection, name)
    if notify and not state.ready:
        note(f"warning: {state.message}" + (f"; run: {state.command}" if state.command else ""))
    return Outcome(kind=kind, name=name, outcome=done.outcome, options=done.changes, notify=state.status)
