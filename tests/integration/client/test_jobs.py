import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
from tests.integration.client.acting import end_job, take_job

from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.jobs_admin import JobState
from flowworker.errors import DataError, UnknownJobError, UnknownQueueError, UsageError


async def test_send_gives_an_id_and_the_job_waits(client: Client, mail: str) -> None:
    first, second = await client.send(mail, {"to": "ä"}), await client.send(mail, None)
    assert second > first
    job = await client.job(mail, first)
    assert (job.state, job.payload, job.attempts, job.error) == (JobState.WAITING, {"to": "ä"}, 0, None)
    assert (await client.job(mail, second)).payload is None


async def test_headers_travel_with_the_job(client: Client, mail: str) -> None:
    job = await client.job(mail, await client.send(mail, 1, headers={"traceparent": "00-ab"}))
    assert job.headers_json is not None
    assert orjson.loads(job.headers_json) == {"traceparent": "00-ab"}


async def test_a_delayed_job_says_when_it_is_due(client: Client, mail: str) -> None:
    job = await client.job(mail, await client.send(mail, 1, delay=60))
    assert job.state is JobState.DELAYED
    assert job.visible_at is not None
    assert 59 <= (job.visible_at - job.enqueued_at).total_seconds() <= 61


async def test_send_joins_the_callers_transaction(client: Client, worker: Connection, mail: str) -> None:
    transaction = worker.transaction()
    await transaction.start()
    job_id = await client.send(mail, 1, connection=worker)
    await transaction.rollback()
    with pytest.raises(UnknownJobError, match=f"no job {job_id}"):
        await client.job(mail, job_id)


async def test_a_job_in_hand_is_running(client: Client, worker: Connection, mail: str) -> None:
    job_id = await client.send(mail, 1)
    await take_job(worker, mail)
    job = await client.job(mail, job_id)
    assert (job.state, job.attempts) == (JobState.RUNNING, 1)


@pytest.mark.parametrize(
    "hostile", [7, "text", [], {"failures": "x"}, {"failures": 1e30, "releases": -1, "attempt": []}]
)
async def test_headers_of_others_break_nothing(client: Client, worker: Connection, mail: str, hostile: object) -> None:
    job_id = await client.send(mail, 1, headers={"flowworker": hostile})
    assert (await client.job(mail, job_id)).state is JobState.WAITING
    await worker.execute("SELECT pgmq.archive('mail', $1::bigint)", job_id)
    assert [job.state for job in await client.jobs(mail)] == [JobState.ARCHIVED]


async def test_a_job_that_backs_off_is_delayed_and_shows_its_last_error(
    client: Client, worker: Connection, mail: str
) -> None:
    job_id = await client.send(mail, 1)
    await take_job(worker, mail)
    await worker.execute(
        "UPDATE pgmq.q_mail SET vt = now() + interval '1 minute', headers = $1",
        b'{"flowworker": {"failures": 1, "error": "busy"}}',
    )
    job = await client.job(mail, job_id)
    assert (job.state, job.attempts, job.error) == (JobState.DELAYED, 1, "busy")


async def test_a_done_job_shows_its_result(client: Client, worker: Connection, mail: str) -> None:
    job_id = await client.send(mail, 1)
    await end_job(worker, mail, job_id, status="done", result=False, attempt=2, duration_ms=1500)
    job = await client.job(mail, job_id)
    assert (job.state, job.result, job.attempts, job.duration) == (JobState.DONE, False, 2, 1.5)
    assert job.ended_at is not None


async def test_a_failed_job_shows_error_and_stacktrace(client: Client, worker: Connection, mail: str) -> None:
    job_id = await client.send(mail, 1)
    await end_job(worker, mail, job_id, status="failed", error="no route", stacktrace="line 1", attempt=5)
    job = await client.job(mail, job_id)
    assert (job.state, job.error, job.stacktrace, job.attempts) == (JobState.FAILED, "no route", "line 1", 5)


async def test_jobs_archived_by_others_are_distinguished(client: Client, worker: Connection, mail: str) -> None:
    job_id = await client.send(mail, 1)
    await worker.execute("SELECT pgmq.archive('mail', $1::bigint)", job_id)
    assert (await client.job(mail, job_id)).state is JobState.ARCHIVED


async def test_jobs_lists_newest_first_and_filters_by_state(client: Client, worker: Connection, mail: str) -> None:
    done, failed, waiting = [await client.send(mail, n) for n in range(3)]
    await end_job(worker, mail, done, status="done", result=1, attempt=1)
    await end_job(worker, mail, failed, status="failed", error="no", attempt=1)
    assert [job.msg_id for job in await client.jobs(mail)] == [waiting, failed, done]
    assert [job.msg_id for job in await client.jobs(mail, limit=2)] == [waiting, failed]
    assert [job.msg_id for job in await client.jobs(mail, state=JobState.FAILED)] == [failed]
    assert [job.msg_id for job in await client.jobs(mail, state=JobState.WAITING)] == [waiting]


async def test_retry_sends_the_payload_of_a_failed_job_again_once(
    client: Client, worker: Connection, mail: str
) -> None:
    job_id = await client.send(mail, {"n": 1}, headers={"tenant": "a"})
    await end_job(worker, mail, job_id, status="failed", error="no", attempt=5)
    new_ids = await asyncio.gather(*(client.retry_job(mail, job_id) for _ in range(4)))
    assert len(set(new_ids)) == 1
    new = await client.job(mail, new_ids[0])
    assert (new.state, new.payload, new.attempts) == (JobState.WAITING, {"n": 1}, 0)
    assert orjson.loads(new.headers_json or b"")["tenant"] == "a"
    assert (await client.job(mail, job_id)).retried_as == new_ids[0]
    assert len(await client.jobs(mail)) == 2


async def test_only_a_failed_job_is_retried(client: Client, worker: Connection, mail: str) -> None:
    waiting = await client.send(mail, 1)
    with pytest.raises(DataError, match=f"job {waiting} of queue 'mail' is waiting"):
        await client.retry_job(mail, waiting)
    await end_job(worker, mail, waiting, status="done", result=1, attempt=1)
    with pytest.raises(DataError, match="is done"):
        await client.retry_job(mail, waiting)


CALLS: dict[str, Callable[[Client, str], Awaitable[object]]] = {
    "send": lambda client, queue: client.send(queue, 1),
    "jobs": lambda client, queue: client.jobs(queue),
    "job": lambda client, queue: client.job(queue, 1),
    "retry": lambda client, queue: client.retry_job(queue, 1),
}


@pytest.mark.parametrize("call", CALLS)
async def test_an_unknown_queue_is_named_with_what_to_do(client: Client, call: str) -> None:
    with pytest.raises(UnknownQueueError, match=r"no queue 'nowhere'.*flows compile"):
        await CALLS[call](client, "nowhere")


@pytest.mark.parametrize("call", ["jobs", "job", "retry"])
async def test_a_queue_name_cannot_smuggle_sql(client: Client, call: str) -> None:
    with pytest.raises(UsageError, match="refuses the queue name"):
        await CALLS[call](client, "mail; DROP TABLE pgmq.q_mail")


@pytest.mark.parametrize("value", [float("nan"), "\0", object()])
async def test_what_jsonb_cannot_hold_is_not_sent(client: Client, mail: str, value: object) -> None:
    with pytest.raises(DataError):
        await client.send(mail, value)
    assert await client.jobs(mail) == []
