"""How the demo prints its story: coloured and in place on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

COLUMNS = ("NAME", "FLOW", "DESIRED", "READY", "BACKLOG", "INFLIGHT", "STATUS")
"""Those of `kubectl get flowworkers`."""
WIDTHS = (12, 12, 8, 6, 8, 9, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What can be seen at one moment."""

    row: Sequence[str]
    """The line of `kubectl get flowworkers`."""
    tasks: int
    """Done so far."""


class View(Protocol):
    """Shows a sight after the other."""

    def show(self, sight: Sight) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(slots=True)
class Narrator:
    """Says what happens, and how long it took."""

    console: Console = field(default_factory=Console)
    took: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds by chapter."""

    @contextmanager
    def chapter(self, title: str) -> Generator[None]:
        """A part of the story."""
        began = time.monotonic()
        self._print(f"\n[bold cyan]{title}[/]")
        yield
        self.took[title] = time.monotonic() - began
        self._print(f"  [green]done[/] in {self.took[title]:.1f} s")

    def say(self, text: str) -> None:
        """One line."""
        self._print(f"  {text}")

    def command(self, text: str) -> None:
        """A command that a user would type."""
        self._print(f"  [dim]$ {text}[/]")

    @contextmanager
    def live(self, total: int) -> Generator[View]:
        """A view of the FlowWorker and of the tasks."""
        if self.console.is_terminal:
            with _LiveView.opened(self.console, total) as view:
                yield view
        else:
            yield _PlainView(total)

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """A table of two columns."""
        self._print(f"\n[bold cyan]{title}[/]")
        width = max(map(len, facts))
        for name, value in facts.items():
            self._print(f"  {name.ljust(width)}  {value}")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)
        sys.stdout.flush()


class _PlainView:
    """A line whenever something has changed, as `kubectl get --watch` prints them, and for each tenth of the tasks."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last: tuple[Sequence[str], int] = ((), 0)
        self._began = time.monotonic()
        self.note(_line(COLUMNS, "TASKS"))

    def show(self, sight: Sight) -> None:
        state = sight.row, 10 * sight.tasks // self._total
        if state != self._last:
            self._last = state
            self.note(_line(sight.row, f"{sight.tasks}/{self._total}"))

    def note(self, text: str) -> None:
        print(f"  {time.monotonic() - self._began:5.1f} s  {text}", flush=True)


class _LiveView:
    """A table and a bar, in place."""

    def __init__(self, live: Live, total: int) -> None:
        self._live = live
        self._notes: list[str] = []
        columns = (TextColumn("  tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns)
        self._bar = self._progress.add_task("tasks", total=total)

    @classmethod
    @contextmanager
    def opened(cls, console: Console, total: int) -> Generator["_LiveView"]:
        with Live(console=console, auto_refresh=False) as live:
            yield cls(live, total)

    def show(self, sight: Sight) -> None:
        table = Table(*COLUMNS, box=None)
        table.add_row(*sight.row)
        self._progress.update(self._bar, completed=sight.tasks)
        self._live.update(Group(table, self._progress, *self._notes), refresh=True)

    def note(self, text: str) -> None:
        self._notes.append(f"  {text}")


def _line(cells: Sequence[str], last: str) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + last
