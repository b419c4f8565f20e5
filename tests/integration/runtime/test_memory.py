"""What a worker process keeps of large inputs once it is idle again."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World
from tests.integration.runtime.large_inputs import apart, large

from flowworker.definition.child import ChildContext
from flowworker.definition.context import Message
from flowworker.runtime.execution.children import Children
from flowworker.runtime.execution.frames import Request

RUNS = 80
SIZE = 8 * 1024 * 1024
IDLE_LIMIT = 120
"""MiB; a worker that has served nothing yet takes about 50."""
MORE = 8
"""MiB that a child process may keep: no input of those it has handled."""
PATIENCE = 300.0
"""Seconds for all runs, on a busy machine."""
SOON = 30.0
"""Seconds from the last run to the memory of an idle worker."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_worker_that_has_served_80_inputs_of_8_mb_is_small_again_when_idle(world: World) -> None:
    await world.create(large)
    async with worker_process(world.database.worker_dsn) as pid:
        await world.owner.execute(
            "SELECT pgflow.start_flow('large', jsonb_build_object('text', repeat('x', $1)))"
            "FROM generate_series(1, $2::integer)",
            SIZE, RUNS,
        )  # fmt: skip
        await until(lambda: all_completed(world), "all runs are completed", patience=PATIENCE)
        await until(lambda: resident(pid) <= IDLE_LIMIT, "the memory is given back", patience=SOON)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_child_process_that_has_handled_large_inputs_is_small_again_when_idle() -> None:
    context = ChildContext(
        run_id=uuid4(), step_slug="echo", task_index=0, attempt=1, max_attempts=1, deadline=float("inf"),
        message=Message(msg_id=1, read_count=1, enqueued_at=datetime.now(UTC), headers={}), idempotency_key="one",
    )  # fmt: skip
    children = Children()
    child = await children.take()
    try:

        async def handle(payload: bytes) -> None:
            request = Request(
                reference=apart.steps["echo"].handler.location, input=payload, flow_input=payload, context=context
            )
            assert (await child.ask(request)).result == payload

        await handle(b'{"text":"small"}')
        small = resident(child.pid)
        for _ in range(10):
            await handle(orjson.dumps({"text": "x" * SIZE}))
        await until(lambda: resident(child.pid) <= small + MORE, "the child gives its memory back", patience=SOON)
    finally:
        await child.reap()


async def all_completed(world: World) -> bool:
    """Whether every run has ended well."""
    statement = "SELECT count(*) FROM pgflow.runs WHERE status = 'completed' AND (output ->> 'twice')::integer = $1"
    return bool(await world.owner.fetchval(statement, 2 * SIZE) == RUNS)


def resident(pid: int) -> int:
    """MiB of memory that a process holds."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) // 1024


@asynccontextmanager
async def worker_process(dsn: str) -> AsyncGenerator[int]:
    """`flowworker run` as a user starts it; gives its process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowworker.cli", "run", "tests.integration.runtime.large_inputs:large",
        env={**os.environ, "FLOWWORKER_DATABASE_URL": dsn},
    )  # fmt: skip
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        assert await process.wait() == 0
