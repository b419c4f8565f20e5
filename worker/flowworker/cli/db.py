"""`flowworker db`: install what FlowWorker needs in a database, and look at it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from flowworker.cli import doctor
from flowworker.cli.db_view import status_text
from flowworker.cli.options import Dsn, DsnFile, OutputOption, with_connection
from flowworker.cli.output import Column, Output, as_json, note, say, show
from flowworker.database.connection import Connection
from flowworker.database.grants import Profile, grant
from flowworker.database.install import ComponentReport, install
from flowworker.database.packaged import Component
from flowworker.database.run_events import RunEventScope
from flowworker.database.status import DatabaseStatus, status

group = typer.Typer(help="Install what FlowWorker needs in a database, and look at it.", rich_markup_mode=None)


class Only(StrEnum):
    """Components that can be installed alone."""

    FLOWWORKER = "flowworker"


COLUMNS: Sequence[Column[ComponentReport]] = (
    Column(title="COMPONENT", cell=lambda report: report.component),
    Column(title="ACTION", cell=lambda report: report.action),
    Column(title="DETAIL", cell=lambda report: report.detail),
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    doctor.register(group)
    app.add_typer(group, name="db")


@group.command("install")
def install_(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="Also give this role a worker's rights. May be repeated."),
    ] = None,
    client_role: Annotated[
        list[str] | None,
        typer.Option(
            "--client-role",
            metavar="ROLE",
            help="Also let this role start runs, send jobs and read results. May be repeated.",
        ),
    ] = None,
    admin_role: Annotated[
        list[str] | None,
        typer.Option(
            "--admin-role",
            metavar="ROLE",
            help="Also let this role do what a client's may, cancel runs and jobs, and drain workers. May be repeated.",
        ),
    ] = None,
    only: Annotated[Only | None, typer.Option("--only", help="Install nothing but our own schema.")] = None,
    run_events: Annotated[
        RunEventScope | None,
        typer.Option(
            "--run-events",
            help="What is announced on a plain PostgreSQL, which slows down the start of runs: nothing, the ends of "
            "runs, or all changes. Without it the choice of before stays, at first `ends`.",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Install what is missing of pgmq, pgflow and our own schema.

    Run it as the owner of the database, as often as you like: what is there is kept.
    """

    async def work(connection: Connection) -> None:
        report = await install(connection, only=None if only is None else Component(only), run_events=run_events)
        statements = [
            statement
            for profile, names in (
                (Profile.WORKER, role),
                (Profile.CLIENT, client_role),
                (Profile.ADMINISTRATOR, admin_role),
            )
            for name in names or ()
            for statement in await grant(connection, name, profile)
        ]
        if output is Output.JSON:
            answer = {"components": report.components, "pins": report.pins, "index": report.index, "grants": statements}
            say(as_json(answer))
            return
        show(COLUMNS, report.components, output)
        for statement in (*report.pins, *report.index.statements, *statements):
            say(f"{statement};")
        if report.index.note is not None:
            note(report.index.note)

    with_connection(dsn, database_file, work)


@group.command("status")
def status_(output: OutputOption = Output.TABLE, dsn: Dsn = None, database_file: DsnFile = None) -> None:
    """Show what is installed and what this role may do."""

    async def work(connection: Connection) -> DatabaseStatus:
        return await status(connection)

    found = with_connection(dsn, database_file, work)
    say(as_json(found) if output is Output.JSON else status_text(found))
