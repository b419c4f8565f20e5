"""The rows of the Elixir job worker."""

import asyncio
import logging
from typing import Any

import orjson
import pytest
from pydantic import BaseModel
from testkit.support.waiting import hold_for, until
from tests.acceptance.support import SLOW, Gate, Stage, clear, make_stage
from tests.conftest import create_database, install_everything

from flowworker import Flow, Queue, TaskContext, Worker
from flowworker.database.jobs_admin import JobState
from flowworker.database.local_server import LocalServer
from flowworker.errors import UsageError
from flowworker.runtime.workload import JobRun
from flowworker.telemetry.events import DatabaseDown, PollStarted, TaskFailed, TaskStarted, TaskStopped
from flowworker.telemetry.logs import LogSubscriber


class Mail(BaseModel):
    to: str


class Postman(Worker):
    """A domain-specific worker."""

    async def perform_work(self, job: JobRun) -> Any:
        """Deliver, but not at the first attempt."""
        if job.attempt == 1:
            raise ConnectionError("nobody at home")
        return {"id": job.id, "attempt": job.attempt, "to": job.payload["to"], "by": self.worker_name}


async def test_claims_the_next_job_atomically_with_any_number_of_workers_side_by_side(stage: Stage) -> None:
    handled: list[int] = []
    together = asyncio.Barrier(4)
    queue = Queue("shared", max_attempts=1, timeout=60)

    @queue.job
    async def work(number: int) -> None:
        handled.append(number)
        await together.wait()  # passes only when all four workers hold a job

    await stage.create(queue)
    locked = await stage.send(queue, -1)
    jobs = [await stage.send(queue, number) for number in range(80)]
    rival = await stage.database.connect()
    async with rival.transaction():
        await rival.execute("SELECT FROM pgmq.q_shared WHERE msg_id = $1 FOR UPDATE", locked)
        names = ["a", "b", "c", "d"]
        workers = [stage.worker(queue, worker_name=name, max_concurrency=1) for name in names]
        async with workers[0], workers[1], workers[2], workers[3]:
            ends = [await stage.job_over(queue, job, patience=40) for job in jobs]
    await rival.close()
    assert sorted(handled) == list(range(80))
    assert {(end.state, end.attempts) for end in ends} == {(JobState.DONE, 1)}
    assert {event.worker.worker_name for event in stage.heard.of(TaskStarted)} == set(names)
    assert (await stage.client.job(queue, locked)).attempts == 0


async def test_is_woken_at_once_when_work_arrives_and_by_one_fallback_timer_of_a_second(stage: Stage) -> None:
    queue = Queue("woken", max_attempts=1, timeout=30)

    @queue.job
    async def work(number: int) -> int:
        return number

    await stage.create(queue)
    async with stage.worker(queue, min_poll_interval=1.0, max_poll_interval=5.0) as worker:
        assert (worker.state().signal.min_interval, worker.state().signal.max_interval) == (1.0, 1.0)
        for _ in range(4):  # each of them a wake-up, none of them a further timer
            await stage.do(queue, 1)
        polls = len(stage.heard.of(PollStarted))
        await hold_for(3.5)
        assert 1 <= len(stage.heard.of(PollStarted)) - polls <= 4
    await stage.announce("woken")
    async with stage.worker(queue, **SLOW) as worker:
        await stage.listening(worker)
        assert (await stage.do(queue, 7)).result == 7


async def test_the_hook_receives_id_attempt_and_payload(stage: Stage) -> None:
    received: list[tuple[int, int, Any]] = []
    hooked, handled = Queue("hooked", base_delay=0, timeout=30), Queue("handled", base_delay=0, timeout=30)

    class Hook(Worker):
        async def perform_work(self, job: JobRun) -> None:
            received.append((job.id, job.attempt, job.payload))
            if job.attempt == 1:
                raise RuntimeError("once more")

    @handled.job
    async def work(payload: dict[str, Any], ctx: TaskContext) -> None:
        received.append((ctx.message.msg_id, ctx.attempt, payload))

    await stage.create(hooked, handled)
    payload = {"to": "ada", "copies": [1, None, "zwei"]}
    async with stage.worker(hooked, Hook), stage.worker(handled):
        by_hook = await stage.do(hooked, payload)
        assert by_hook.state is JobState.DONE
        by_handler = await stage.do(handled, payload)
    assert received == [(by_hook.msg_id, 1, payload), (by_hook.msg_id, 2, payload), (by_handler.msg_id, 1, payload)]


async def test_success_stores_the_result_and_an_exception_its_text_and_stack_trace(stage: Stage) -> None:
    queue = Queue("kept", max_attempts=2, base_delay=0, timeout=30)

    @queue.job
    async def work(message: Mail) -> dict[str, Any]:
        if message.to == "nobody":
            raise LookupError("no such address: nobody")
        return {"sent": message.to}

    await stage.create(queue)
    async with stage.worker(queue) as worker:
        done = await stage.do(queue, {"to": "ada"})
        failed = await stage.do(queue, {"to": "nobody"})
    assert (done.state, done.result, done.error, done.attempts) == (JobState.DONE, {"sent": "ada"}, None, 1)
    assert (failed.state, failed.result, failed.attempts) == (JobState.FAILED, None, 2)
    assert failed.error == "LookupError: no such address: nobody"
    assert "in work" in (failed.stacktrace or "")
    assert 'raise LookupError("no such address: nobody")' in (failed.stacktrace or "")
    assert {done.worker_id, failed.worker_id} == {str(worker.worker_id)}
    assert (done.duration or 0) > 0


async def test_a_pool_has_workers_1_to_n_under_its_name_and_each_reports_its_own_id_in_logs_and_events(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    together = asyncio.Barrier(3)
    queue = Queue("pooled", max_attempts=1, timeout=30)

    @queue.job
    async def work(_: int, ctx: TaskContext) -> None:
        await together.wait()
        ctx.logger.info("at work")

    await stage.create(queue)
    stage.heard.stream.subscribe(LogSubscriber())
    with caplog.at_level(logging.DEBUG, logger="flowworker"):
        async with stage.pool(queue, name="mailers", size=3, max_concurrency=1) as pool:
            assert [state.worker_name for state in pool.states()] == [f"mailers_Worker_{n}" for n in (1, 2, 3)]
            ids = {worker.worker_name: worker.worker_id for worker in pool.workers}
            with pytest.raises(UsageError, match="'mailers' is in use"):
                await stage.pool(queue, name="mailers").start()
            for job in [await stage.send(queue, number) for number in range(6)]:
                await stage.job_over(queue, job)
    assert len(set(ids.values())) == 3
    named = {(event.worker.worker_name, event.worker.worker_id) for event in stage.heard.of(TaskStopped)}
    assert named == set(ids.items())
    lines = [line for line in caplog.records if line.getMessage() == "task completed"]
    assert {(vars(line)["worker"], vars(line)["worker_id"]) for line in lines} == set(ids.items())


async def test_a_domain_specific_worker_is_a_handler_or_a_subclass_with_its_own_perform_work(stage: Stage) -> None:
    queue = Queue("post", max_attempts=2, base_delay=0, timeout=30)
    typed = Queue("typed_post", timeout=30)

    @typed.job
    async def deliver(mail: Mail) -> str:
        return mail.to

    await stage.create(queue, typed)
    async with stage.pool(queue, worker=Postman, name="post", size=2), stage.worker(typed):
        job = await stage.do(queue, {"to": "ada"})
        assert job.result["by"] in {"post_Worker_1", "post_Worker_2"}
        assert job.result | {"by": ""} == {"id": job.msg_id, "attempt": 2, "to": "ada", "by": ""}
        assert (await stage.do(typed, {"to": "bob"})).result == "bob"
    async with stage.worker(queue, Postman, worker_name="alone", max_concurrency=1):
        assert (await stage.do(queue, {"to": "cleo"})).result["by"] == "alone"
    with pytest.raises(UsageError, match="perform_work"):
        stage.worker(Flow("no_queue"), Postman)


async def test_the_database_down_while_reporting_is_warned_of_and_the_result_kept_and_written_later(
    own_server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    database = await create_database(own_server, "reporting")
    await install_everything(database)
    before = await make_stage(database)
    gate = Gate()
    runs: list[int] = []
    queue = Queue("reported", max_attempts=2, timeout=60)

    @queue.job
    async def work(number: int) -> str:
        runs.append(number)
        await gate.pass_through()
        return "kept"

    await before.create(queue)
    with caplog.at_level(logging.WARNING, logger="flowworker"):
        async with before.worker(queue) as worker:
            job = await before.send(queue, 1)
            await gate.reached()
            await clear(before)
            own_server.stop()
            gate.release.set()
            await until(lambda: worker.state().unwritten_results == 1, "a result that cannot be written")
            await before.heard.first(DatabaseDown)
            await until(lambda: "keeps 1 results" in caplog.text, "the warning")
            assert before.heard.of(TaskStopped) == []  # only what is written has stopped
            own_server.start()
            after = await make_stage(database)
            end = await after.job_over(queue, job, patience=40)
            await clear(after)
    assert (end.state, end.result, end.attempts, runs) == (JobState.DONE, "kept", 1, [1])
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert any("could not be written" in warning for warning in warnings)
    assert len(before.heard.of(TaskStopped)) == 1


async def test_an_unknown_or_malformed_payload_fails_with_a_clear_error_and_the_queue_goes_on(stage: Stage) -> None:
    queue = Queue("picky", max_attempts=1, timeout=30)

    class Letter(BaseModel):
        type: str
        to: str
        pages: int

    @queue.job(type="letter")
    async def send(letter: Letter) -> str:
        return letter.to

    await stage.create(queue)
    async with stage.worker(queue):
        ends = [
            await stage.do(queue, payload)
            for payload in (
                {"type": "parcel"},
                {"to": "ada"},
                ["no", "object"],
                None,
                {"type": "letter", "to": "ada", "pages": "many"},
                {"type": "letter", "to": "ada", "pages": 2},
            )
        ]
    assert [end.state for end in ends] == [JobState.FAILED] * 5 + [JobState.DONE]
    errors = [end.error or "" for end in ends]
    assert "no handler for type 'parcel', known types: 'letter'" in errors[0]
    assert all("'type'" in error for error in errors[1:4])
    assert "pages" in errors[4]
    assert ends[5].result == "ada"


async def test_events_report_a_jobs_start_stop_and_error_with_id_attempt_payload_duration_and_error(
    stage: Stage,
) -> None:
    queue = Queue("told_jobs", max_attempts=2, base_delay=0, timeout=30)

    @queue.job
    async def work(message: dict[str, int], ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ValueError("at first")
        return message["n"] + 1

    await stage.create(queue)
    async with stage.worker(queue, worker_name="teller"):
        job = await stage.do(queue, {"n": 4})
        stopped = await stage.heard.first(TaskStopped)
    starts = stage.heard.of(TaskStarted)
    assert [(one.task.msg_id, one.task.attempt) for one in starts] == [(job.msg_id, 1), (job.msg_id, 2)]
    assert all(orjson.loads(one.task.input) == {"n": 4} for one in starts)
    (failed,) = stage.heard.of(TaskFailed)
    assert (failed.task.msg_id, failed.failure.message, failed.retry_in) == (job.msg_id, "ValueError: at first", 0)
    assert (stopped.task.msg_id, stopped.task.attempt, stopped.output) == (job.msg_id, 2, b"5")
    assert failed.duration > 0
    assert stopped.duration > 0
    assert {one.worker.worker_name for one in (*starts, failed, stopped)} == {"teller"}
