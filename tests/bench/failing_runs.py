"""What failing runs cost beside the claims of others, by core: deadlocks, time and work for so many tasks.

`python -m tests.bench.failing_runs` starts a PostgreSQL of its own, with the `deadlock_timeout` that PostgreSQL has by
default: who waits in a circle waits for a second. Workers on each catalogue take turns, because only figures of one run
can be compared. Beside the time, the processor's is measured, which says what the work costs on a machine that does
other things too: a neighbour that takes the processor away makes the one longer and not the other.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from tests.conftest import (
    Database,
    apply_catalogues,
    create_database,
    create_roles,
    drop_database,
    install_everything,
    make_server,
)
from tests.integration.sources.world import World, a_world, completed, failed

from flowworker.bench.observing import processor_seconds
from flowworker.database.local_server import LocalServer
from flowworker.database.records import ClaimedTask, Outcome, TaskResult
from flowworker.definition.flow import Flow
from flowworker.runtime.sources.flow_source import FlowSource

BASE = "0.14"
"""The last core that leaves the other tasks of a failed run alone."""

CORES = ("0.15", "0.17")
TASKS, WORKERS, FAILING = 150, 3, 0.1
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

brittle = Flow("brittle", max_attempts=1, base_delay=0, timeout=60)

_numbers = count(1)


@brittle.map
async def element(value: int) -> int:
    """Only claimed and finished."""
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one round on one core."""

    tasks: int
    """Claimed."""
    deadlocks: int
    seconds: float
    processor: float
    """Seconds of the worker's process and the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One core beside `BASE`, for the same number of tasks; medians of all rounds."""

    deadlocks: float
    """For each thousand tasks."""
    time: float
    """How many times as long."""
    processor: float
    """How many times as much of the processor: these cores do more for each task."""
    waiting: float
    """How many times as long for the work done: more than 1 where workers wait for each other."""


@asynccontextmanager
async def templates(cores: Sequence[str]) -> AsyncGenerator[Mapping[str, Database]]:
    """A server of its own, and a database to copy for each core."""
    with _server() as server:
        await create_roles(server)
        base = await create_database(server, "installed")
        await install_everything(base)
        made: dict[str, Database] = {}
        for core in cores:
            name = f"core_{core.replace('.', '_')}"
            made[core] = replace(await create_database(server, name, base.name), core=core)
            await apply_catalogues(made[core], core)
        yield made


async def cost(template: Database, *, runs: int) -> Cost:
    """Let workers of one process work off so many runs, one task in ten failing its run."""
    name = f"round_{next(_numbers)}"
    database = await create_database(template.server, name, template.name)
    async with a_world(database) as world:
        await world.create(brittle)
        for _ in range(runs):
            await world.start("brittle", list(range(TASKS)))
        sources = [await world.source(brittle) for _ in range(WORKERS)]
        used, began = await _processor(world), time.monotonic()
        done = await asyncio.gather(*(work(source, one_in_ten(random.Random(n))) for n, source in enumerate(sources)))
        seconds, used = time.monotonic() - began, await _processor(world) - used
        result = Cost(tasks=sum(done), deadlocks=await deadlocks(world), seconds=seconds, processor=used)
    await drop_database(database)
    return result


def one_in_ten(chance: random.Random) -> Callable[[ClaimedTask], Outcome]:
    """Handlers of which one in ten fails."""
    return lambda _: failed() if chance.random() < FAILING else completed()


async def work(source: FlowSource, handler: Callable[[ClaimedTask], Outcome]) -> int:
    """Claim and finish until nothing is left; returns the number of tasks."""
    idle = done = 0
    while idle < 5:
        tasks = (await source.claim(10, ())).tasks
        done += len(tasks)
        idle = 0 if tasks else idle + 1
        results = [TaskResult(task=task, outcome=handler(task)) for task in tasks]
        await asyncio.gather(*(source.finish([result]) for result in results))
    return done


async def deadlocks(world: World) -> int:
    """Counted by PostgreSQL, which reports its statistics of a session no later than when that ends."""
    await world.close()
    return await world.owner.fetchval(DEADLOCKS)


@contextmanager
def _server() -> Generator[LocalServer]:
    with tempfile.TemporaryDirectory(prefix="flowworker-bench-") as folder:
        Path(folder).chmod(0o755)
        server = make_server(Path(folder) / "server")
        patient = {name: value for name, value in server.settings.items() if name != "deadlock_timeout"}
        with replace(server, settings=patient) as running:
            yield running


async def _processor(world: World) -> float:
    pids = [row["pid"] for row in await world.owner.fetch(BACKENDS)]
    return sum(processor_seconds(pid) or 0.0 for pid in (*pids, os.getpid()))


async def compare(cores: Sequence[str], *, rounds: int, runs: int) -> dict[str, Comparison]:
    """Measure each core and `BASE` by turns, forwards and backwards."""
    costs: dict[str, list[Cost]] = {core: [] for core in (BASE, *cores)}
    async with templates(list(costs)) as made:
        for number in range(rounds):
            for core in list(costs)[:: -1 if number % 2 else 1]:
                costs[core].append(await cost(made[core], runs=runs))
    return {core: _comparison(costs[core], costs[BASE]) for core in cores}


def _comparison(costs: Sequence[Cost], base: Sequence[Cost]) -> Comparison:
    times = [one.seconds / one.tasks * other.tasks / other.seconds for one, other in zip(costs, base, strict=True)]
    works = [one.processor / one.tasks * other.tasks / other.processor for one, other in zip(costs, base, strict=True)]
    return Comparison(
        deadlocks=1000 * sum(one.deadlocks for one in costs) / sum(one.tasks for one in costs),
        time=statistics.median(times),
        processor=statistics.median(works),
        waiting=statistics.median(time / work for time, work in zip(times, works, strict=True)),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", nargs="+", default=CORES)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--runs", type=int, default=20, help="of one map of 150 tasks each, in each round")
    chosen = parser.parse_args()
    for core, found in asyncio.run(compare(chosen.cores, rounds=chosen.rounds, runs=chosen.runs)).items():
        print(
            f"{core}: {found.deadlocks:.2f} deadlocks for 1,000 tasks; beside {BASE} {found.time:.2f} times the time, "
            f"{found.processor:.2f} times the processor's, {found.waiting:.2f} times as long for the work done"
        )


if __name__ == "__main__":
    main()
