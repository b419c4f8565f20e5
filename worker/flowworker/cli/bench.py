"""`flowworker bench`: measure the worker against the least that the same statements can cost."""

import asyncio
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flowworker.bench.budgets import Figure
from flowworker.bench.measurements import FULL, QUICK, Plan, measure_all
from flowworker.bench.picture import draw
from flowworker.bench.place import own_database, own_server
from flowworker.bench.report import LatencyRow, Report, ThroughputRow, make_report
from flowworker.cli.options import Dsn, DsnFile, OutputOption, database_settings
from flowworker.cli.output import Column, Output, as_json, note, say, show
from flowworker.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("bench")(bench)


FIGURES: Sequence[Column[Figure]] = (
    Column(title="FIGURE", cell=lambda figure: figure.what),
    Column(title="VALUE", cell=lambda figure: _limit(figure, figure.value), right=True),
    Column(title="MUST", cell=lambda figure: _limit(figure, figure.must, bound=True), right=True),
    Column(title="AIM", cell=lambda figure: _limit(figure, figure.aim, bound=True), right=True),
    Column(title="MET", cell=lambda figure: figure.verdict),
)
THROUGHPUT: Sequence[Column[ThroughputRow]] = (
    Column(title="WORK", cell=lambda row: row.kind),
    Column(title="AT ONCE", cell=lambda row: row.concurrency, right=True),
    Column(title="SIDE", cell=lambda row: row.side),
    Column(title="TASKS/S", cell=lambda row: _number(row.tasks_per_second, 0), right=True),
    Column(title="STATEMENTS/TASK", cell=lambda row: _number(row.statements_per_task, 3), right=True),
    Column(title="WAL BYTES/TASK", cell=lambda row: _number(row.wal_bytes_per_task, 0), right=True),
    Column(title="DB CPU S/1000", cell=lambda row: _number(row.database_seconds_per_1000, 3), right=True),
    Column(title="PROCESS CPU S/1000", cell=lambda row: _number(row.process_seconds_per_1000, 3), right=True),
)
LATENCIES: Sequence[Column[LatencyRow]] = (
    Column(title="LATENCY (MS)", cell=lambda row: row.what),
    Column(title="P50", cell=lambda row: _number(row.p50, 1), right=True),
    Column(title="P95", cell=lambda row: _number(row.p95, 1), right=True),
    Column(title="P99", cell=lambda row: _number(row.p99, 1), right=True),
    Column(title="SAMPLES", cell=lambda row: row.samples, right=True),
)


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of ten; the figures are rough.")] = False,
    output_directory: Annotated[
        Path | None, typer.Option("--output-directory", metavar="FOLDER", help="Write bench.json and bench.png there.")
    ] = None,
    output: OutputOption = Output.TABLE,
    dsn: Dsn = None,
    database_file: DsnFile = None,
) -> None:
    """Measure the worker beside a bare loop of its own statements: ratios, latencies, memory, what idleness costs.

    Runs in a PostgreSQL of its own, or with --dsn in a database that it creates on that server and drops afterwards.
    """
    with _server(dsn, database_file) as uri:
        report = asyncio.run(_measure(uri, QUICK if quick else FULL))
    if output_directory is not None:
        _write(report, output_directory)
    if output is Output.JSON:
        say(as_json(report))
        return
    show(THROUGHPUT, report.throughput, output)
    say("")
    show(LATENCIES, report.latencies, output)
    say("")
    show(FIGURES, report.figures, output)


@contextmanager
def _server(dsn: str | None, file: Path | None) -> Generator[str]:
    """The server named on the command line, else one of our own: never one that the environment happens to name."""
    if dsn is not None or file is not None:
        yield database_settings(dsn, file).dsn()
        return
    with own_server() as uri:
        yield uri


async def _measure(dsn: str, plan: Plan) -> Report:
    async with own_database(dsn) as site:
        version = site.observer.get_server_version()
        measured = await measure_all(site, plan, note)
    return make_report(measured, plan, postgresql=f"{version.major}.{version.minor}", processors=os.cpu_count())


def _write(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(as_json(report), encoding="utf-8")
    note(f"written: {folder / 'bench.json'}")
    try:
        draw(report, folder / "bench.png")
    except UsageError as error:
        note(str(error))
    else:
        note(f"written: {folder / 'bench.png'}")


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:,.{digits}f}"


def _limit(figure: Figure, value: float | None, *, bound: bool = False) -> str | None:
    """A figure with its unit, or the limit that it must keep."""
    if value is None:
        return None
    sign = ("≥ " if figure.at_least else "≤ ") if bound else ""
    text = f"{value:.2f}" if not figure.unit else f"{value:.1f}"
    return f"{sign}{text} {figure.unit}".rstrip()
