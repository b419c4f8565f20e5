"""What the examples say about retries, stops and leases is true."""

import asyncio

from examples.job_queue import Reminder, mail
from examples.long_task import Film, film_flow
from examples.retries import Payment, payment_flow
from tests.conftest import Database

from flowworker import Client, Flow, Queue, Worker
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import RunStatus
from flowworker.telemetry.events import Event, TaskFailed, TaskStarted


def worker(workload: Flow | Queue, database: Database, *, drain_timeout: float | None = None) -> Worker:
    return Worker(
        workload, dsn=database.dsn, min_poll_interval=0.05, max_poll_interval=0.05, drain_timeout=drain_timeout
    )


def first_of(kind: type[Event], worker: Worker) -> asyncio.Event:
    """Set when the worker first emits such an event."""
    happened = asyncio.Event()
    worker.events.subscribe(lambda event: happened.set() if isinstance(event, kind) else None)
    return happened


async def test_a_stopped_worker_gives_its_long_task_back_without_costing_an_attempt(database: Database) -> None:
    async with Client(database.dsn) as client:
        first = worker(film_flow, database, drain_timeout=0)
        started = first_of(TaskStarted, first)
        await first.start()
        run = await client.start(film_flow, Film(frames=200))
        await asyncio.wait_for(started.wait(), 20)
        await first.stop()
        (task,) = (await client.run(run.run_id)).tasks
        assert (task.status, task.attempts) == ("queued", 0)
        async with worker(film_flow, database):
            ended = await client.wait(run.run_id, timeout=30)
    assert ended.output == {"publish": "film of 200 frames"}


async def test_a_failure_for_good_ends_the_run_in_its_first_attempt(database: Database) -> None:
    cashier = worker(payment_flow, database)
    attempts: list[Event] = []
    cashier.events.subscribe(lambda event: attempts.append(event) if isinstance(event, TaskStarted) else None)
    async with cashier, Client(database.dsn) as client:
        run = await client.start(payment_flow, Payment(account="nobody", cents=1))
        ended = await client.wait(run.run_id, timeout=20)
    assert (ended.status, ended.error) == (RunStatus.FAILED, "no account 'nobody'")
    assert len(attempts) == 1


async def test_delays_are_those_of_the_handler_and_of_the_backoff(database: Database) -> None:
    async with Client(database.dsn) as client, worker(payment_flow, database):
        run = await client.start(payment_flow, Payment(account="ACC-1", cents=1))
        await client.wait(run.run_id, timeout=30)
        steps = {step.step_slug: step for step in (await client.run(run.run_id)).steps}
    taken = {
        slug: (step.completed_at - step.started_at).total_seconds()
        for slug, step in steps.items()
        if step.completed_at and step.started_at
    }
    assert taken["charge"] >= 1
    assert taken["receipt"] >= 2
    assert [steps[slug].attempts for slug in ("account", "charge", "receipt")] == [1, 2, 2]


async def test_a_job_that_fails_waits_for_its_backoff(database: Database) -> None:
    mailer = worker(mail, database)
    failed = first_of(TaskFailed, mailer)
    async with mailer, Client(database.dsn) as client:
        job_id = await client.send(mail, Reminder(address="bob@example.org", cents=0))
        await asyncio.wait_for(failed.wait(), 20)
        job = await client.job(mail, job_id)
    assert (job.state, job.attempts) == (JobState.DELAYED, 1)
