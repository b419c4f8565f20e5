"""The figures that matter, what they must be and what they should be, and how a measurement compares. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from flowworker.bench.figures import percentile
from flowworker.bench.idleness import Idle
from flowworker.bench.measurements import Measurements
from flowworker.bench.throughput import Kind, Round, Side

MEBIBYTE = 2**20
MILLISECONDS = 1000.0


class Verdict(StrEnum):
    """How a figure stands."""

    AIM = "aim"
    """As good as we want it."""
    MUST = "must"
    """Good enough."""
    MISSED = "missed"
    UNKNOWN = "unknown"
    """Not measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One promise."""

    what: str
    measured: Callable[[Measurements], float | None]
    aim: float
    must: float | None = None
    """None: reported only."""
    at_least: bool = False
    """The limits are lower ones; else upper ones."""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A promise and what became of it."""

    what: str
    value: float | None
    unit: str
    must: float | None
    aim: float
    at_least: bool
    verdict: Verdict


def figures_of(measured: Measurements) -> list[Figure]:
    """All figures, in the order of the budgets."""
    return [_figure(budget, budget.measured(measured)) for budget in BUDGETS]


def judge(value: float | None, *, must: float | None, aim: float, at_least: bool) -> Verdict:
    """Compare a value with its limits."""
    if value is None:
        return Verdict.UNKNOWN

    def within(limit: float) -> bool:
        return value >= limit if at_least else value <= limit

    if within(aim):
        return Verdict.AIM
    return Verdict.MUST if must is None or within(must) else Verdict.MISSED


def rate_ratio(measured: Measurements, kind: Kind, concurrency: int) -> float | None:
    """The worker's tasks per second as a share of the floor's: the median of the rounds' ratios."""
    return _ratio(measured, kind, concurrency, lambda one: one.rate)


def database_ratio(measured: Measurements, kind: Kind, concurrency: int) -> float | None:
    """The same for the database's processor time per task."""
    return _ratio(measured, kind, concurrency, lambda one: one.used.database_seconds)


def _ratio(
    measured: Measurements, kind: Kind, concurrency: int, value: Callable[[Round], float | None]
) -> float | None:
    """Rounds are paired in the order in which they were run, so that both sides of a pair met the same machine."""
    floors, workers = (
        [one for one in measured.rounds if (one.kind, one.concurrency, one.side) == (kind, concurrency, side)]
        for side in (Side.FLOOR, Side.WORKER)
    )
    pairs = [(value(floor), value(worker)) for floor, worker in zip(floors, workers, strict=True)]
    ratios = [worker / floor for floor, worker in pairs if floor and worker is not None]
    return median(ratios) if ratios else None


def _latency(values: Sequence[float], share: float) -> float | None:
    return percentile(values, share) * MILLISECONDS if values else None


def _idle(measured: Measurements, kind: Kind, value: Callable[[Idle], float | None]) -> float | None:
    return next((value(one) for one in measured.idle if one.kind is kind), None)


def _statements(idle: Idle) -> float | None:
    return None if idle.statements is None else idle.statements / idle.seconds


def _memory(idle: Idle) -> float | None:
    return None if idle.resident_bytes is None else idle.resident_bytes / MEBIBYTE


def _figure(budget: Budget, value: float | None) -> Figure:
    return Figure(
        what=budget.what,
        value=value,
        unit=budget.unit,
        must=budget.must,
        aim=budget.aim,
        at_least=budget.at_least,
        verdict=judge(value, must=budget.must, aim=budget.aim, at_least=budget.at_least),
    )


BUDGETS: Sequence[Budget] = (
    Budget(
        what="runs/s against the floor, concurrency 50",
        measured=lambda m: rate_ratio(m, Kind.FLOW, 50), must=0.7, aim=0.95, at_least=True,
    ),
    Budget(
        what="runs/s against the floor, concurrency 10",
        measured=lambda m: rate_ratio(m, Kind.FLOW, 10), must=0.5, aim=0.8, at_least=True,
    ),
    Budget(
        what="jobs/s against read + archive, concurrency 10",
        measured=lambda m: rate_ratio(m, Kind.QUEUE, 10), must=0.5, aim=0.8, at_least=True,
    ),
    Budget(
        what="idle pickup, p50", unit="ms", must=15, aim=5, measured=lambda m: _latency(m.latencies.pickup, 0.5)
    ),
    Budget(
        what="idle pickup, p99", unit="ms", must=60, aim=25, measured=lambda m: _latency(m.latencies.pickup, 0.99)
    ),
    Budget(
        what="step to step in an idle chain, p50", unit="ms", must=25, aim=10,
        measured=lambda m: _latency(m.latencies.steps, 0.5),
    ),
    Budget(
        what="memory of an idle worker", unit="MiB", must=55, aim=45, measured=lambda m: _idle(m, Kind.FLOW, _memory)
    ),
    Budget(
        what="statements/s of an idle flow worker", must=1, aim=0.4,
        measured=lambda m: _idle(m, Kind.FLOW, _statements),
    ),
    Budget(
        what="statements/s of an idle queue worker", must=2, aim=1.3,
        measured=lambda m: _idle(m, Kind.QUEUE, _statements),
    ),
    Budget(
        what="database CPU against the floor, concurrency 50", aim=1.1,
        measured=lambda m: database_ratio(m, Kind.FLOW, 50),
    ),
    Budget(
        what="database CPU against the floor, concurrency 10", aim=1.1,
        measured=lambda m: database_ratio(m, Kind.FLOW, 10),
    ),
)  # fmt: skip
"""The promises, in the order in which they are shown."""
