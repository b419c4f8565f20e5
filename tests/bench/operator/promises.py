"""The operator's figures: what they must be and what they should be. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowworker.bench.budgets import Figure, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """An upper limit for one value."""

    what: str
    value: str
    """Its name among the measured values."""
    aim: float
    must: float | None = None
    """None: reported only."""
    unit: str = ""


PROMISES: Sequence[Promise] = (
    Promise(what="control-plane tier, start", value="start", must=12, aim=5, unit="s"),
    Promise(what="announced backlog at zero to replicas patched, p50", value="announced p50", aim=0.5, unit="s"),
    Promise(
        what="announced backlog at zero to replicas patched, p99", value="announced p99", must=3, aim=0.5, unit="s"
    ),
    Promise(what="looked-for backlog at zero to replicas patched, p50", value="looked for p50", aim=0.5, unit="s"),
    Promise(
        what="looked-for backlog at zero to replicas patched, p99", value="looked for p99", must=3, aim=1, unit="s"
    ),
    Promise(what="spec change to Ready, p95", value="change p95", must=15, aim=10, unit="s"),
    Promise(what="memory with 1 FlowWorker", value="memory with one", must=100, aim=75, unit="MiB"),
    Promise(what="memory with 200 FlowWorkers", value="memory with many", must=140, aim=110, unit="MiB"),
    Promise(what="200 created at once until all have conditions", value="conditions", aim=30, unit="s"),
    Promise(what="connections per database", value="connections", must=1, aim=1),
    Promise(what="statements per second at rest, one for each look", value="statements per second", must=1.2, aim=1.1),
    Promise(what="API writes while idle", value="idle writes", must=0, aim=0),
    Promise(what="processor while idle, percent of one", value="idle processor", aim=10),
    Promise(what="writes per FlowWorker and second while growing", value="writes while growing", aim=0.5),
    Promise(what="API writes per FlowWorker and second", value="writes", must=0.3, aim=0.15),
    Promise(what="500 databases, all well: backlog to replicas, p99", value="good p99 before", aim=1.5, unit="s"),
    Promise(what="100 silent and 100 slow: the others' p50", value="good p50", aim=0.7, unit="s"),
    Promise(what="100 silent and 100 slow: the others' p99", value="good p99", must=1.5, aim=1.2, unit="s"),
    Promise(what="memory with 500 databases", value="memory with tenants", must=300, aim=256, unit="MiB"),
    Promise(what="processor with 500 databases, percent of one", value="processor with tenants", aim=30),
    Promise(what="longest time between two renewals of the Lease", value="longest renewal", must=10, aim=4, unit="s"),
)


def figures_of(values: Mapping[str, object]) -> list[Figure]:
    """All figures, in the order of the promises; unknown where nothing was measured."""
    return [_figure(promise, values.get(promise.value)) for promise in PROMISES]


def _figure(promise: Promise, measured: object) -> Figure:
    value = float(measured) if isinstance(measured, int | float) else None
    return Figure(
        what=promise.what,
        value=value,
        unit=promise.unit,
        must=promise.must,
        aim=promise.aim,
        at_least=False,
        verdict=judge(value, must=promise.must, aim=promise.aim, at_least=False),
    )
