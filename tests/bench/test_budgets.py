"""The figures that do not depend on the machine: ratios within one run, counts, memory.

Every test measures until its promise holds, at most three times: a neighbour that takes the processor away for some
seconds is no fault of ours, and a worker that is too slow stays too slow.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from flowworker.bench.budgets import BUDGETS, Budget, Verdict, judge
from flowworker.bench.figures import percentile
from flowworker.bench.idleness import Idle, measure_idle
from flowworker.bench.latency import Latencies, measure_latencies
from flowworker.bench.measurements import Load, Measurements, measure_load
from flowworker.bench.place import own_database, own_server
from flowworker.bench.throughput import Kind, Site

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("bench"), pytest.mark.timeout(400)]

ATTEMPTS = 3
NO_LATENCIES = Latencies(pickup=(), announced=(), steps=())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with own_server() as dsn:
        yield dsn


@pytest.fixture
async def site(server: str) -> AsyncIterator[Site]:
    async with own_database(server) as made:
        yield made


def budget(what: str) -> Budget:
    (found,) = (one for one in BUDGETS if what in one.what)
    return found


def holds(promise: Budget, measured: Measurements) -> bool:
    value = promise.measured(measured)
    assert value is not None
    verdict = judge(value, must=promise.must, aim=promise.aim, at_least=promise.at_least)
    return verdict in {Verdict.AIM, Verdict.MUST}


@pytest.mark.parametrize(
    ("what", "load"),
    [
        ("runs/s against the floor, concurrency 50", Load(kind=Kind.FLOW, concurrency=50, tasks=1000)),
        ("runs/s against the floor, concurrency 10", Load(kind=Kind.FLOW, concurrency=10, tasks=600)),
        ("jobs/s against read + archive", Load(kind=Kind.QUEUE, concurrency=10, tasks=3000)),
    ],
)
async def test_the_worker_keeps_up_with_the_floor(site: Site, what: str, load: Load) -> None:
    seen: list[float | None] = []
    for _ in range(ATTEMPTS):
        rounds = await measure_load(site, load, 3, lambda _: None)
        measured = Measurements(rounds=rounds, latencies=NO_LATENCIES, idle=())
        if holds(budget(what), measured):
            return
        seen.append(budget(what).measured(measured))
    pytest.fail(f"{what}: {seen}")


@pytest.mark.parametrize("kind", list(Kind))
async def test_an_idle_worker_hardly_talks_to_the_database(site: Site, kind: Kind) -> None:
    idle = await _idle(site, kind)
    assert holds(budget(f"statements/s of an idle {kind} worker"), idle)


async def test_an_idle_worker_is_small(site: Site) -> None:
    assert holds(budget("memory of an idle worker"), await _idle(site, Kind.FLOW, seconds=1))


async def test_with_notify_a_run_starts_long_before_the_next_poll_would_come(site: Site) -> None:
    latencies = await measure_latencies(site, pickups=10, chains=2)
    assert percentile(latencies.pickup, 0.5) < 0.25
    assert percentile(latencies.steps, 0.5) < 0.25


async def _idle(site: Site, kind: Kind, *, seconds: float = 30) -> Measurements:
    idle: Idle = await measure_idle(site, kind, seconds=seconds)
    return Measurements(rounds=(), latencies=NO_LATENCIES, idle=[idle])
