"""A worker on a plain pgmq queue."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.context import TaskContext
from flowworker.definition.queue import Queue
from flowworker.errors import UsageError
from flowworker.runtime.worker import Worker
from flowworker.runtime.workload import JobRun
from flowworker.telemetry.events import TaskFailed, TaskStarted, TaskStopped


class Mail(BaseModel):
    to: str


async def test_a_job_is_handled_and_its_result_stored(world: World) -> None:
    mail = Queue("mail", max_attempts=2, base_delay=0, timeout=10)

    @mail.job
    async def send(message: Mail, ctx: TaskContext) -> dict[str, Any]:
        return {"sent": message.to, "key": ctx.idempotency_key}

    await world.create(mail)
    async with world.worker(mail):
        job = await world.send(mail, {"to": "ada"})
        done = await world.done(mail, job)
    assert (done["status"], done["attempt"], done["result"]) == ("done", 1, {"sent": "ada", "key": f"mail:{job}"})
    (started,) = world.heard.of(TaskStarted)
    assert (started.task.msg_id, started.task.attempt, started.task.input) == (job, 1, b'{"to": "ada"}')
    (stopped,) = world.heard.of(TaskStopped)
    assert stopped.task.msg_id == job


async def test_a_job_that_fails_is_tried_again_and_its_error_stored(world: World) -> None:
    mail = Queue("mail", max_attempts=2, base_delay=0, timeout=10)

    @mail.job
    async def send(message: Mail) -> None:
        raise RuntimeError(f"no route to {message.to}")

    await world.create(mail)
    async with world.worker(mail):
        job = await world.send(mail, {"to": "ada"})
        done = await world.done(mail, job)
        await until(lambda: len(world.heard.of(TaskFailed)) == 2, "two attempts fail")
    assert (done["status"], done["attempt"]) == ("failed", 2)
    assert done["error"] == "RuntimeError: no route to ada"
    assert "in send" in done["stacktrace"]


async def test_a_payload_that_fits_no_handler_fails_and_the_queue_goes_on(world: World) -> None:
    mail = Queue("mail", max_attempts=1, timeout=10)

    @mail.job(type="letter")
    async def send(message: dict[str, Any]) -> str:
        return message["to"]

    await world.create(mail)
    async with world.worker(mail):
        jobs = [
            await world.send(mail, payload) for payload in ({"type": "parcel"}, ["odd"], {"type": "letter", "to": "x"})
        ]
        ends = [await world.done(mail, job) for job in jobs]
    assert [end["status"] for end in ends] == ["failed", "failed", "done"]
    assert "parcel" in ends[0]["error"]


class CountingWorker(Worker):
    """A domain-specific worker."""

    async def perform_work(self, job: JobRun) -> Any:
        """Handle a job."""
        return {"id": job.id, "attempt": job.attempt, "n": job.payload["n"], "by": self.worker_name}


async def test_a_subclass_handles_jobs_itself(world: World) -> None:
    plain = Queue("plain", timeout=10)
    await world.create(plain)
    async with world.worker(plain, CountingWorker, worker_name="counter"):
        job = await world.send(plain, {"n": 5})
        done = await world.done(plain, job)
    assert done["result"] == {"id": job, "attempt": 1, "n": 5, "by": "counter"}


def test_a_subclass_for_jobs_refuses_a_flow() -> None:
    from flowworker.definition.flow import Flow

    with pytest.raises(UsageError, match="perform_work"):
        CountingWorker(Flow("f", timeout=1), dsn="postgresql://nowhere")


async def test_a_job_longer_than_its_lease_is_not_given_to_another(world: World) -> None:
    runs = 0
    long = Queue("long_job", max_attempts=3, timeout=120)

    @long.job
    async def work(_: int) -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(18)
        return runs

    await world.create(long)
    async with world.worker(long, worker_name="one"), world.worker(long, worker_name="two"):
        job = await world.send(long, 1)
        await until(lambda: runs == 1, "the job runs")
        async with asyncio.timeout(40):
            done = await world.done(long, job)
    assert (done["status"], runs) == ("done", 1)


async def test_a_worker_reports_how_long_its_jobs_may_take(world: World) -> None:
    """No table has it, and the operator waits that long for a worker that is to go."""
    mail = Queue("mail", timeout=900)

    @mail.job
    async def send(message: Mail) -> None: ...

    await world.create(mail)
    async with world.worker(mail) as worker:
        assert (await world.worker_row(worker.worker_id))["longest_timeout"] == 900
