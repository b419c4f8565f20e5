"""What the demo shows: how far it is while it runs, and a table of what completed."""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Protocol

from flowworker.database.records import SourceKind
from flowworker.telemetry.events import Event, RunCompleted, TaskFailed, TaskStopped


@dataclass(slots=True)
class Tally:
    """Counts what the workers' events report; an instance is a subscriber of an event stream."""

    runs: int = 0
    tasks: int = 0
    jobs: int = 0
    retries: dict[SourceKind, int] = field(default_factory=lambda: dict.fromkeys(SourceKind, 0))
    failed: dict[SourceKind, int] = field(default_factory=lambda: dict.fromkeys(SourceKind, 0))
    durations: dict[SourceKind, list[float]] = field(default_factory=lambda: {kind: [] for kind in SourceKind})

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RunCompleted():
                self.runs += 1
            case TaskStopped(worker=worker, duration=duration):
                self.tasks += worker.kind is SourceKind.FLOW
                self.jobs += worker.kind is SourceKind.QUEUE
                self.durations[worker.kind].append(duration)
            case TaskFailed(worker=worker, retry_in=None):
                self.failed[worker.kind] += 1
            case TaskFailed(worker=worker):
                self.retries[worker.kind] += 1
            case _:
                return


class View(Protocol):
    """Shows how far the demo is."""

    def update(self, tally: Tally, seconds: float) -> None: ...


class PlainView:
    """One line a second, for logs and pipes."""

    def __init__(self, expected: Mapping[str, int]) -> None:
        """Take how many there are of each kind."""
        self._expected = expected
        self._next = 0.0

    def update(self, tally: Tally, seconds: float) -> None:
        """Print a line when the last one is a second old."""
        if seconds < self._next:
            return
        self._next = seconds + 1
        counts = "  ".join(f"{name} {getattr(tally, name)}/{many}" for name, many in self._expected.items())
        print(f"{seconds:5.1f} s  {counts}  retries {sum(tally.retries.values())}", flush=True)


@contextmanager
def live_view(expected: Mapping[str, int]) -> Generator[View]:
    """Progress bars on a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        yield PlainView(expected)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns) as progress:
        bars = {name: progress.add_task(name, total=many) for name, many in expected.items()}

        class Bars:
            def update(self, tally: Tally, seconds: float) -> None:
                for name, bar in bars.items():
                    progress.update(bar, completed=getattr(tally, name))

        yield Bars()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the final table."""

    name: str
    completed: int
    failed: int
    retries: int | None
    """None where it makes no sense."""
    durations: Sequence[float]
    """Seconds."""

    def cells(self) -> tuple[str, ...]:
        """The line's texts."""
        p50, p95 = _percentiles(self.durations)
        retries = "" if self.retries is None else str(self.retries)
        return self.name, str(self.completed), str(self.failed), retries, p50, p95


HEADER = ("", "completed", "failed", "retries", "p50", "p95")


def table(rows: Sequence[Row]) -> str:
    """The final table as text, numbers to the right."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _percentiles(durations: Sequence[float]) -> tuple[str, str]:
    if len(durations) < 2:
        return "", ""
    cuts = quantiles(durations, n=20, method="inclusive")
    return _shown(cuts[9]), _shown(cuts[18])


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
