"""`flowworker doctor`: check a database for what keeps workers from working."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated

import typer

from flowworker.cli.options import Dsn, DsnFile, OutputOption, database_settings
from flowworker.cli.output import Output, as_json, say
from flowworker.cli.references import load_all
from flowworker.database.connection import Connection, connect
from flowworker.database.doctor import Finding, Level, diagnose
from flowworker.database.examination import Examination, examine
from flowworker.database.faults import translated
from flowworker.definition.flow import Flow
from flowworker.errors import ExitCode
from flowworker.settings import Settings

APPLICATION_NAME = "flowworker-cli"
INDENT = 21


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(doctor)


def doctor(
    references: Annotated[
        list[str] | None, typer.Argument(metavar="MODULE:OBJECT", help="Flows that should be in the database.")
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> int:
    """Check a database for what keeps workers from working.

    It looks with the rights of the role that connects: give it the worker's. Exit code 65 when it finds an error.
    """
    flows = [workload for workload in load_all(references or []) if isinstance(workload, Flow)]

    findings = diagnose(asyncio.run(_examined(database_settings(dsn, database_file), flows)))
    say(as_json(findings) if output is Output.JSON else findings_text(findings))
    return ExitCode.DATA if any(finding.level is Level.ERROR for finding in findings) else ExitCode.DRAINED


async def _examined(settings: Settings, flows: Sequence[Flow]) -> Examination:
    """The look itself prepares nothing, so that it can be had through any pooler."""
    uri = settings.dsn()
    async with AsyncExitStack() as stack:
        connections: list[Connection] = []
        for _ in range(2):
            connection = await connect(uri, application_name=APPLICATION_NAME, statement_cache=False)
            stack.push_async_callback(connection.close)
            connections.append(connection)
        with translated("look at the database"):
            return await examine(
                *connections,
                now=lambda: datetime.now(UTC),
                flows=flows,
                statement_cache=settings.statement_cache,
            )


def findings_text(findings: Sequence[Finding]) -> str:
    """Every finding in a line, with what to do about it in the next one."""
    return "\n".join(line for finding in findings for line in _lines(finding))


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.level:<8} {finding.check:<11} {finding.found}"
    if finding.advice:
        yield " " * INDENT + finding.advice
