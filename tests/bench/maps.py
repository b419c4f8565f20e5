"""Tasks per second of one map, by its size: with our own functions for tasks of maps, and with the core's alone.

`python -m tests.bench.maps` starts a PostgreSQL of its own. Both take turns, each in a database of its own, because
only figures of one run can be compared. Where the bodies of the core's functions have hashes that we do not know, they
do all the work.
"""

import argparse
import asyncio
import statistics
import time

from testkit.support.waiting import until

from flowworker.bench.place import own_database, own_server
from flowworker.client import Client
from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled
from flowworker.database.connection import connect
from flowworker.definition.flow import Flow
from flowworker.runtime.pool import WorkerPool

mapping = Flow("mapping", timeout=60)

OTHER_BODIES = """
    DO $$ BEGIN
        EXECUTE replace(pg_get_functiondef('pgflow.start_tasks(text, bigint[], uuid)'::regprocedure),
                        'with tasks as', 'with  tasks as');
        EXECUTE replace(pg_get_functiondef('pgflow.complete_task(uuid, text, integer, jsonb)'::regprocedure),
                        'v_dependent_map_slug text;', 'v_dependent_map_slug  text;');
    END $$
"""
DONE = "SELECT count(*) FROM pgflow.step_tasks WHERE step_slug = 'each' AND status = 'completed'"


@mapping.step
async def make(value: dict[str, int]) -> list[str]:
    """An array of so many elements of so many characters."""
    return [str(n).ljust(value["size"], "x") for n in range(value["count"])]


@mapping.map(over=make)
async def each(element: str) -> int:
    """Do nothing."""
    return len(element)


async def rate(dsn: str, count: int, size: int, *, ours: bool, seconds: float) -> float:
    """Tasks per second over the time in which the map runs, at most so many seconds of it."""
    async with own_database(dsn) as site:
        owner = await connect(site.dsn, application_name="bench")
        if not ours:
            await owner.execute(OTHER_BODIES)
        await ensure_compiled(owner, mapping, await detect(owner))
        async with WorkerPool([mapping], dsn=site.dsn, max_concurrency=50, batch_size=50), Client(site.dsn) as client:
            await client.start(mapping, {"count": count, "size": size})
            await until(lambda: owner.fetchval(DONE), "the first task of the map", patience=300, every=0.005)
            began = time.monotonic()
            first = done = await owner.fetchval(DONE)
            while done < count and time.monotonic() - began < seconds:
                await asyncio.sleep(0.01)
                done = await owner.fetchval(DONE)
            passed = time.monotonic() - began
        await owner.close()
        return (done - first) / passed


async def measure(sizes: list[int], *, size: int, rounds: int, seconds: float) -> None:
    """Measure and print, one size of the map after the other."""
    with own_server() as dsn:
        for count in sizes:
            rates: dict[bool, list[float]] = {True: [], False: []}
            for number in range(rounds):
                for ours in (False, True) if number % 2 else (True, False):
                    rates[ours].append(await rate(dsn, count, size, ours=ours, seconds=seconds))
            mine, core = statistics.median(rates[True]), statistics.median(rates[False])
            print(f"{count} x {size} B: ours {mine:.1f}/s, core {core:.1f}/s, {mine / core:.1f} times", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000, 50_000])
    parser.add_argument("--size", type=int, default=8, help="characters of an element")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="most of each measurement")
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.counts, size=chosen.size, rounds=chosen.rounds, seconds=chosen.seconds))


if __name__ == "__main__":
    main()
