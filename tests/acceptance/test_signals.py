"""The signals people and Kubernetes send, to a real process of the command line."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from testkit.support.waiting import until
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli, until_line

from flowworker.database.jobs_admin import JobState

NAPS = "naps"


@pytest.fixture
async def naps(stage: Stage) -> str:
    """The queue of the user's module."""
    await stage.owner.execute("SELECT pgmq.create('naps')")
    return NAPS


@asynccontextmanager
async def napping(stage: Stage, cli: Cli, job: int) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker process that runs this job."""
    process = await cli.start("run", "program:naps")
    try:
        await until_line(process, "worker started")

        async def runs() -> bool:
            return (await stage.client.job(NAPS, job)).state is JobState.RUNNING

        await until(runs, "a job that runs")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Exit code and what was still said."""
    _, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


async def finishes_what_runs(stage: Stage, cli: Cli, number: signal.Signals) -> None:
    job = await stage.client.send(NAPS, 2.0)
    async with napping(stage, cli, job) as process:
        process.send_signal(number)
        later = await stage.client.send(NAPS, 0.0)
        code, said = await ended(process)
    assert (code, "Traceback" in said) == (0, False)
    done = await stage.client.job(NAPS, job)
    assert (done.state, done.result, done.attempts) == (JobState.DONE, "rested", 1)
    assert await stage.client.workers() == []
    reports = await stage.client.workers(ended=True)
    assert [report.state for report in reports] == ["stopped"]
    assert (await stage.client.job(NAPS, later)).state in {JobState.WAITING, JobState.DONE}


async def test_sigterm(stage: Stage, cli: Cli, naps: str) -> None:
    await finishes_what_runs(stage, cli, signal.SIGTERM)


async def test_second_sigterm(stage: Stage, cli: Cli, naps: str) -> None:
    job = await stage.client.send(naps, 500.0)
    async with napping(stage, cli, job) as process:
        process.send_signal(signal.SIGTERM)
        await until_line(process, "worker draining")
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        code, said = await ended(process)
    assert (code, "Traceback" in said) == (0, False)
    back = await stage.client.job(naps, job)
    assert (back.state, back.error) == (JobState.WAITING, None)  # for any worker, at once
    headers = await stage.owner.fetchval("SELECT headers->>'failures' FROM pgmq.q_naps WHERE msg_id = $1", job)
    assert headers in {None, "0"}  # no attempt charged
    assert await stage.client.workers() == []


async def test_sigint(stage: Stage, cli: Cli, naps: str) -> None:
    await finishes_what_runs(stage, cli, signal.SIGINT)
