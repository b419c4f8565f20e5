"""Signals, sent to a worker in a process of its own."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.integration.runtime import program
from tests.integration.runtime.conftest import World


@asynccontextmanager
async def running(world: World, *arguments: str, before: tuple[str, ...] = ()) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, program.__file__, world.database.worker_dsn, *arguments, stdout=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def begun(process: Process) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"begun\n"


async def ended(process: Process) -> int:
    async with asyncio.timeout(20):
        return await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_first_signal_waits_for_what_runs(world: World, number: signal.Signals, loop: str) -> None:
    await world.create(program.signals)
    job = await world.send(program.signals, 1.0)
    async with running(world, loop) as process:
        await begun(process)
        process.send_signal(number)
        assert await ended(process) == 0
    done = await world.archived(program.signals, job)
    assert done is not None
    assert done["result"] == "finished"


async def test_a_hangup_stays_ignored_where_it_was_and_sigterm_does_not(world: World) -> None:
    """As `nohup` wants the first; the second is how service managers end a worker."""
    await world.create(program.signals)
    job = await world.send(program.signals, 1.0)
    ignoring = ("env", "--ignore-signal=HUP,TERM")
    async with running(world, before=ignoring) as process:
        await begun(process)
        process.send_signal(signal.SIGHUP)
        done = await world.done(program.signals, job)
        assert done["result"] == "finished"
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


async def test_the_second_signal_gives_back_what_runs_at_once(world: World) -> None:
    await world.create(program.signals)
    job = await world.send(program.signals, 300.0)
    async with running(world) as process:
        await begun(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0
    row: Any = await world.owner.fetchrow(
        "SELECT vt <= clock_timestamp() AS visible FROM pgmq.q_signals WHERE msg_id = $1", job
    )
    assert row["visible"]
    assert await world.archived(program.signals, job) is None
