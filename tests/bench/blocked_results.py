"""How many good results are written while one cannot be: a worker whose results all can be, and one with a bad one.

`python -m tests.bench.blocked_results` starts a PostgreSQL of its own. Rounds with and without the bad result take
turns, because only figures of one run can be compared. `refused`: a trigger lets no row of one job into the archive.
`locked`: another transaction holds the row of one job for the whole round. `slow`: a trigger sleeps over one job's row.

A transaction that is open for long, as one that locks or a slow write, keeps PostgreSQL from clearing away what
claims then have to step over, whatever that transaction does. So the rounds beside these have such a transaction, too.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, get_args

from flowworker.bench.place import own_database, own_server
from flowworker.database.connection import Connection, connect
from flowworker.definition.queue import Queue
from flowworker.runtime.pool import WorkerPool

Trouble = Literal["refused", "locked", "slow"]

jobs = Queue("blocked", timeout=600)
begun = asyncio.Event()
go_on = asyncio.Event()

OBSTACLE = """
CREATE FUNCTION obstacle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.message ->> 'bad' = 'refused' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END IF;
  IF NEW.message ->> 'bad' = 'slow' THEN PERFORM pg_sleep(3600); END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER obstacle BEFORE INSERT ON pgmq.a_blocked FOR EACH ROW EXECUTE FUNCTION obstacle();
"""
SEND = "SELECT pgmq.send_batch('blocked', array_agg('{}'::jsonb)) FROM generate_series(1, $1::integer)"
SEND_BAD = "SELECT pgmq.send('blocked', jsonb_build_object('bad', $1::text))"
LEFT = "SELECT count(*) FROM pgmq.q_blocked"
DONE = "SELECT count(*) FROM pgmq.a_blocked"
SUPPLY = 5000


@jobs.job
async def job(payload: dict[str, str]) -> None:
    """Do nothing; a bad one waits until its row is in trouble."""
    if "bad" in payload:
        begun.set()
        await go_on.wait()


@asynccontextmanager
async def at_ease(other: Connection, trouble: Trouble) -> AsyncGenerator[None]:
    """All results can be written."""
    async with AsyncExitStack() as stack:
        if trouble in ("locked", "slow"):
            await stack.enter_async_context(other.transaction())
            await other.execute("SELECT pg_current_xact_id()")
        yield


@asynccontextmanager
async def in_trouble(owner: Connection, other: Connection, trouble: Trouble) -> AsyncGenerator[None]:
    """A job whose result cannot be written."""
    begun.clear()
    go_on.clear()
    await owner.fetchval(SEND_BAD, trouble)
    await begun.wait()
    async with AsyncExitStack() as stack:
        if trouble == "locked":
            await stack.enter_async_context(other.transaction())
            await other.execute("SELECT FROM pgmq.q_blocked WHERE message ? 'bad' FOR UPDATE")
        go_on.set()
        yield
    await owner.execute("DELETE FROM pgmq.q_blocked WHERE message ? 'bad'")


async def rate(owner: Connection, seconds: float) -> float:
    """Good jobs per second that are archived within so many seconds, while there are always more."""
    before = await owner.fetchval(DONE)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        missing = SUPPLY - await owner.fetchval(LEFT)
        if missing > 0:
            await owner.execute(SEND, missing)
        await asyncio.sleep(0.05)
    return (await owner.fetchval(DONE) - before) / passed


async def measure(dsn: str, trouble: Trouble, *, rounds: int, seconds: float) -> list[float]:
    """The rate beside a bad result over the rate without one, for each round."""
    async with own_database(dsn) as site, AsyncExitStack() as stack:
        owner, other = [await connect(site.dsn, application_name="bench") for _ in range(2)]
        stack.push_async_callback(owner.close)
        stack.push_async_callback(other.close)
        await owner.execute("SELECT pgmq.create('blocked')")
        await owner.execute(OBSTACLE)
        ratios: list[float] = []
        async with WorkerPool([jobs], dsn=site.dsn):
            await rate(owner, seconds)
            for number in range(rounds):
                rates: dict[bool, float] = {}
                for bad in (False, True) if number % 2 else (True, False):  # neither is always the earlier one
                    async with in_trouble(owner, other, trouble) if bad else at_ease(other, trouble):
                        rates[bad] = await rate(owner, seconds)
                ratios.append(rates[True] / rates[False])
        return ratios


async def measure_all(troubles: Sequence[Trouble], *, rounds: int, seconds: float) -> None:
    """Measure and print, one trouble after the other."""
    with own_server() as dsn:
        for trouble in troubles:
            ratios = await measure(dsn, trouble, rounds=rounds, seconds=seconds)
            median, least, most = statistics.median(ratios), min(ratios), max(ratios)
            print(f"{trouble}: {median:.2f} of the rate without ({least:.2f} to {most:.2f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--troubles", nargs="+", choices=get_args(Trouble), default=get_args(Trouble))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    asyncio.run(measure_all(chosen.troubles, rounds=chosen.rounds, seconds=chosen.seconds))


if __name__ == "__main__":
    main()
