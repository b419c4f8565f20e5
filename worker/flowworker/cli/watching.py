"""Watching a run until it ends: a live table on a terminal, a line for every change in a pipe."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from flowworker.cli.output import STATE_STYLES, say
from flowworker.cli.runs_view import changes, done, headline, run_line, step_columns
from flowworker.client import Client
from flowworker.database.records import RunStatus
from flowworker.database.runs import RunDetails
from flowworker.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from rich.console import RenderableType

ATTENTION = 20
"""Tasks read with every look; failed and active ones come first."""

BAR_WIDTH = 20

Viewer: TypeAlias = Callable[[RunDetails], None]


async def watch(client: Client, run_id: UUID) -> RunDetails:
    """Show a run until it has ended, and give its last state.

    Raises:
        UnknownRunError: the database has no such run.
    """
    details = await client.run(run_id, tasks=ATTENTION)
    with _viewer() as view:
        async for status in client.watch(run_id):
            try:
                details = await client.run(run_id, tasks=ATTENTION)
            except DatabaseUnavailableError:
                if status is not RunStatus.STARTED:
                    raise
                continue  # Watching goes on when the database is back.
            view(details)
    return details


@contextmanager
def _viewer() -> Generator[Viewer]:
    if not sys.stdout.isatty():
        yield _line_viewer()
        return
    with _live_viewer() as view:
        yield view


def _line_viewer() -> Viewer:
    seen: list[RunDetails | None] = [None]

    def view(details: RunDetails) -> None:
        for line in changes(seen[0], details):
            say(line)
        seen[0] = details

    return view


@contextmanager
def _live_viewer() -> Generator[Viewer]:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda details: live.update(_picture(details), refresh=True)


def _picture(details: RunDetails) -> "RenderableType":
    """The table of steps, with a bar for the tasks of each, as rich draws it."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = step_columns(details.run, datetime.now(UTC))
    for title in (*(column.title for column in columns), ""):
        table.add_column(title)
    for step in details.steps:
        texts = [Text(str(column.cell(step) or ""), STATE_STYLES.get(str(column.cell(step)), "")) for column in columns]
        table.add_row(*texts, ProgressBar(total=step.initial_tasks or 1, completed=done(step), width=BAR_WIDTH))
    lines = (*headline(details.run), "") if not details.run.has_ended else (run_line(details.run), "")
    return Group(*(Text(line) for line in lines), table)
