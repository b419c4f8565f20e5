"""Everything one benchmark measures, and how much of it: the plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowworker.bench.idleness import Idle, measure_idle
from flowworker.bench.latency import Latencies, measure_latencies
from flowworker.bench.throughput import Kind, Round, Side, Site, measure

Progress = Callable[[str], None]
"""Called with one line about what has just been measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of work at one concurrency."""

    kind: Kind
    concurrency: int
    tasks: int
    """Per round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    loads: Sequence[Load]
    pickups: int
    chains: int
    idle_seconds: float
    """A multiple of 30 s, the fallback of `notify`, or the figure lacks its share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured."""

    rounds: Sequence[Round]
    latencies: Latencies
    idle: Sequence[Idle]


FULL = Plan(
    rounds=5,
    loads=(
        Load(kind=Kind.FLOW, concurrency=50, tasks=2500),
        Load(kind=Kind.FLOW, concurrency=10, tasks=1500),
        Load(kind=Kind.QUEUE, concurrency=10, tasks=10_000),
        Load(kind=Kind.QUEUE, concurrency=50, tasks=10_000),
    ),
    pickups=120,
    chains=30,
    idle_seconds=60,
)
"""Some ten minutes."""

QUICK = Plan(
    rounds=1,
    loads=(
        Load(kind=Kind.FLOW, concurrency=50, tasks=500),
        Load(kind=Kind.FLOW, concurrency=10, tasks=200),
        Load(kind=Kind.QUEUE, concurrency=10, tasks=1000),
        Load(kind=Kind.QUEUE, concurrency=50, tasks=1500),
    ),
    pickups=10,
    chains=3,
    idle_seconds=6,
)
"""Shows that it works, within a minute; the figures are rough."""


async def measure_all(site: Site, plan: Plan, progress: Progress) -> Measurements:
    """Do everything in the plan, one thing at a time."""
    rounds = [one for load in plan.loads for one in await measure_load(site, load, plan.rounds, progress)]
    progress(f"latencies: {plan.pickups} pickups, {plan.chains} chains")
    latencies = await measure_latencies(site, pickups=plan.pickups, chains=plan.chains)
    idle: list[Idle] = []
    for kind in Kind:
        progress(f"an idle {kind} worker for {plan.idle_seconds:g} s")
        idle.append(await measure_idle(site, kind, seconds=plan.idle_seconds))
    return Measurements(rounds=rounds, latencies=latencies, idle=idle)


async def measure_load(site: Site, load: Load, rounds: int, progress: Progress) -> list[Round]:
    """Rounds of both sides, the first one in turn."""
    measured: list[Round] = []
    for number in range(rounds):
        sides = tuple(Side) if number % 2 == 0 else tuple(reversed(Side))
        for side in sides:
            one = await measure(site, load.kind, side, concurrency=load.concurrency, tasks=load.tasks)
            measured.append(one)
            progress(f"{load.kind}, {load.concurrency} at once, round {number + 1}: {side} {one.rate:.0f}/s")
    return measured
