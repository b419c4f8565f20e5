"""How long runs of a quiet flow take beside a flow in trouble, in the same worker process, against alone.

`python -m tests.bench.neighbours` starts a PostgreSQL of its own. Spans alone and beside take turns, because only
figures of one run can be compared. `locked`: a transaction holds a run of the other flow while its results come in.
`huge`: the other flow maps over thousands of elements of 2 kB. `refused`: a trigger takes no result of the other flow.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal, get_args

from flowworker.bench.figures import percentile
from flowworker.bench.place import own_database, own_server
from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled
from flowworker.database.connection import Connection, connect
from flowworker.definition.flow import Flow
from flowworker.runtime.pool import WorkerPool

Trouble = Literal["locked", "huge", "refused"]

SPACING = 0.1
"""Seconds between two runs of the quiet flow."""

quiet = Flow("quiet", timeout=60)
troubled = Flow("troubled", timeout=600, max_attempts=1)
huge = Flow("huge", timeout=600)


@quiet.step
async def nothing() -> None:
    """Do nothing."""


@troubled.step
async def result(run_input: dict[str, Any]) -> str:
    """Give what the input asks for, after a moment."""
    await asyncio.sleep(0.05)
    return "refused" if run_input.get("refused") else "fine"


@huge.step
async def elements(run_input: int) -> list[str]:
    """A large array."""
    return ["x" * 2000] * run_input


@huge.map(over=elements)
async def element(item: str) -> int:
    """One element of it."""
    return len(item)


START = "SELECT run_id FROM pgflow.start_flow($1, $2::jsonb)"
TOOK = """
SELECT extract(epoch FROM completed_at - started_at)::float8 AS took FROM pgflow.runs
WHERE run_id = ANY($1::uuid[]) AND completed_at IS NOT NULL
"""
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
WHEN (NEW.output = '"refused"') EXECUTE FUNCTION refuse();
"""
LOCK = "SELECT FROM pgflow.runs WHERE run_id = $1 FOR UPDATE"


async def quiet_runs(owner: Connection, seconds: float) -> list[float]:
    """Seconds that each run of the quiet flow took, of those started within so many seconds."""
    loop = asyncio.get_running_loop()
    end, runs = loop.time() + seconds, list[Any]()
    while loop.time() < end:
        runs.append(await owner.fetchval(START, quiet.slug, b"{}"))
        await asyncio.sleep(SPACING)
    async with asyncio.timeout(60):
        while len(took := await owner.fetch(TOOK, runs)) < len(runs):  # noqa: ASYNC110 - the database says when
            await asyncio.sleep(SPACING)
    return [row["took"] for row in took]


@asynccontextmanager
async def in_trouble(other: Connection, trouble: Trouble) -> AsyncGenerator[None]:
    """The other flow is in trouble, again and again, for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        match trouble:
            case "locked":
                run_id = await other.fetchval(START, troubled.slug, b"{}")
                await stack.enter_async_context(other.transaction())
                await other.execute(LOCK, run_id)
            case "huge":
                await other.execute(START, huge.slug, b"10000")
            case "refused":
                more = asyncio.create_task(_refused(other))
                stack.callback(more.cancel)
        yield
    if trouble == "huge":
        await other.execute("DELETE FROM pgmq.q_huge")


async def _refused(other: Connection) -> None:
    while True:
        await other.fetchval(START, troubled.slug, b'{"refused": true}')
        await asyncio.sleep(SPACING)


async def measure(dsn: str, trouble: Trouble, *, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Times of quiet runs alone, and beside."""
    async with own_database(dsn) as site, AsyncExitStack() as stack:
        owner, other = [await connect(site.dsn, application_name="bench") for _ in range(2)]
        stack.push_async_callback(owner.close)
        stack.push_async_callback(other.close)
        for flow in (quiet, troubled, huge):
            await ensure_compiled(owner, flow, await detect(owner))
        await owner.execute(REFUSE)
        alone, beside = list[float](), list[float]()
        async with WorkerPool([quiet, troubled, huge], dsn=site.dsn, signal_strategy="notify"):
            await quiet_runs(owner, 3.0)
            for _ in range(rounds):
                alone += await quiet_runs(owner, seconds)
                async with in_trouble(other, trouble):
                    beside += await quiet_runs(owner, seconds)
        return alone, beside


async def measure_all(*, rounds: int, seconds: float) -> None:
    """Measure and print, one trouble after the other."""
    with own_server() as dsn:
        for trouble in get_args(Trouble):
            alone, beside = await measure(dsn, trouble, rounds=rounds, seconds=seconds)
            for share in (0.5, 0.99):
                one, two = percentile(alone, share), percentile(beside, share)
                figures = f"{1000 * one:.1f} ms alone, {1000 * two:.1f} ms beside, {two / one:.2f}"
                print(f"{trouble}: p{100 * share:.0f} {figures}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0)
    chosen = parser.parse_args()
    asyncio.run(measure_all(rounds=chosen.rounds, seconds=chosen.seconds))


if __name__ == "__main__":
    main()
