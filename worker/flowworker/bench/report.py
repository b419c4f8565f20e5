"""What is shown and written of a benchmark: rows, and one document with everything. Pure."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

from flowworker.bench.budgets import MILLISECONDS, Figure, figures_of
from flowworker.bench.figures import percentile
from flowworker.bench.measurements import Measurements, Plan
from flowworker.bench.throughput import Kind, Round, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """Medians over the rounds of one side; None where the machine or the server provides no figure."""

    kind: Kind
    concurrency: int
    side: Side
    tasks_per_second: float
    statements_per_task: float | None
    wal_bytes_per_task: float | None
    database_seconds_per_1000: float | None
    """Processor time of the server's processes that worked for this side."""
    process_seconds_per_1000: float | None
    """Processor time of the worker's, or the floor's, own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow:
    """One kind of latency, in milliseconds."""

    what: str
    p50: float
    p95: float
    p99: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where the figures come from, as far as it explains them."""

    python: str
    event_loop: str
    processors: int | None
    postgresql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything, as it is written to JSON."""

    environment: Environment
    plan: Plan
    figures: Sequence[Figure]
    throughput: Sequence[ThroughputRow]
    latencies: Sequence[LatencyRow]
    measurements: Measurements


def make_report(measured: Measurements, plan: Plan, *, postgresql: str, processors: int | None) -> Report:
    """Put everything together.

    Args:
        measured: the measurements.
        plan: what was to be measured.
        postgresql: the server's version.
        processors: of the machine.
    """
    event_loop = "asyncio" if find_spec("uvloop") is None else "uvloop"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Report(
        environment=Environment(python=python, event_loop=event_loop, processors=processors, postgresql=postgresql),
        plan=plan,
        figures=figures_of(measured),
        throughput=throughput_rows(measured.rounds),
        latencies=latency_rows(measured),
        measurements=measured,
    )


def throughput_rows(rounds: Sequence[Round]) -> list[ThroughputRow]:
    """A row for each kind, concurrency and side, in the order in which they were measured."""
    groups: dict[tuple[Kind, int, Side], list[Round]] = {}
    for one in rounds:
        groups.setdefault((one.kind, one.concurrency, one.side), []).append(one)
    return [_throughput_row(group) for group in groups.values()]


def latency_rows(measured: Measurements) -> list[LatencyRow]:
    """A row for each kind of latency that was measured."""
    kinds = {
        "start to handler": measured.latencies.pickup,
        "commit to handler": measured.latencies.announced,
        "step to step": measured.latencies.steps,
    }
    return [_latency_row(what, values) for what, values in kinds.items() if values]


def _throughput_row(group: Sequence[Round]) -> ThroughputRow:
    first = group[0]
    return ThroughputRow(
        kind=first.kind,
        concurrency=first.concurrency,
        side=first.side,
        tasks_per_second=median(one.rate for one in group),
        statements_per_task=_per_task(group, [one.used.statements for one in group]),
        wal_bytes_per_task=_per_task(group, [one.used.wal_bytes for one in group]),
        database_seconds_per_1000=_per_task(group, [one.used.database_seconds for one in group], 1000),
        process_seconds_per_1000=_per_task(group, [one.used.process_seconds for one in group], 1000),
    )


def _per_task(group: Sequence[Round], values: Sequence[float | None], tasks: int = 1) -> float | None:
    known = [value / one.tasks for one, value in zip(group, values, strict=True) if value is not None]
    return median(known) * tasks if known else None


def _latency_row(what: str, values: Sequence[float]) -> LatencyRow:
    p50, p95, p99 = (percentile(values, share) * MILLISECONDS for share in (0.5, 0.95, 0.99))
    return LatencyRow(what=what, p50=p50, p95=p95, p99=p99, samples=len(values))
