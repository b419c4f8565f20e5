"""Sending jobs to plain pgmq queues and reading back what became of them."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import WORKER_ROLE_OPTION, translated
from flowworker.database.identifiers import archive_table, queue_table
from flowworker.database.statements import fill, load
from flowworker.definition.json_text import decoded
from flowworker.errors import DataError, UnknownJobError, UnknownQueueError


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    """A worker may take it now."""
    DELAYED = "delayed"
    """It waits for its time: sent with a delay, or backing off after a failed attempt."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It failed its last attempt."""
    CANCELLED = "cancelled"
    """It was cancelled while it waited or ran."""
    ARCHIVED = "archived"
    """Another program archived it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a queue."""

    msg_id: int
    state: JobState
    enqueued_at: datetime
    visible_at: datetime | None
    """When a delayed job is due, or the lease of a running one ends unless it is prolonged."""
    ended_at: datetime | None
    attempts: int
    """Attempts begun so far."""
    payload_json: bytes
    headers_json: bytes | None
    result_json: bytes | None
    error: str | None
    stacktrace: str | None
    duration: float | None
    """Seconds of the last attempt, once the job has ended."""
    worker_id: str | None
    retried_as: int | None
    """The job that this failed or cancelled one was sent again as."""

    @property
    def payload(self) -> Any:
        """The payload, decoded."""
        return decoded(self.payload_json)

    @property
    def result(self) -> Any:
        """What the handler returned, decoded; None until the job is done."""
        return None if self.result_json is None else decoded(self.result_json)


async def send_job(
    connection: AnyConnection, queue: str, payload_json: bytes, headers_json: bytes | None, delay: int
) -> int:
    """Send one message; it becomes visible after `delay` seconds.

    Raises:
        UnknownQueueError: the database has no such queue.
    """
    headers = None if headers_json is None else headers_json.decode()
    queue_table(queue)  # refuses what pgmq would refuse
    with about_queue(queue, f"send to queue {queue!r}"):
        return await connection.fetchval(load("client/send_job"), queue, payload_json.decode(), headers, delay)


async def list_jobs(connection: AnyConnection, queue: str, *, state: JobState | None, limit: int) -> list[Job]:
    """The newest jobs of a queue, newest first.

    Raises:
        UnknownQueueError: the database has no such queue.
    """
    with about_queue(queue, f"list the jobs of queue {queue!r}"):
        rows = await connection.fetch(_jobs_statement(await _folded(connection, queue)), None, state, limit)
    return [_job(row) for row in rows]


async def read_job(connection: AnyConnection, queue: str, msg_id: int) -> Job:
    """One job, in the queue or in its archive.

    Raises:
        UnknownQueueError: the database has no such queue.
        UnknownJobError: the queue has no such job.
    """
    with about_queue(queue, f"read a job of queue {queue!r}"):
        row = await connection.fetchrow(_jobs_statement(await _folded(connection, queue)), msg_id, None, 1)
    if row is None:
        raise UnknownJobError(f"queue {queue!r} has no job {msg_id}; list them with `flowworker jobs list {queue}`")
    return _job(row)


async def retry_job(connection: AnyConnection, queue: str, msg_id: int) -> int:
    """Send the payload of a failed or cancelled job again and give the new job's id; the same id again when repeated.

    Raises:
        UnknownQueueError: the database has no such queue.
        UnknownJobError: the queue has no such job.
        DataError: the job has neither failed nor been cancelled.
    """
    with about_queue(queue, f"send a job of queue {queue!r} again"):
        statement = fill("client/retry_job", archive=archive_table(await _folded(connection, queue)))
        new_id = await connection.fetchval(statement, queue, msg_id)
    if new_id is not None:
        return new_id
    job = await read_job(connection, queue, msg_id)
    if job.retried_as is None:
        raise DataError(
            f"job {msg_id} of queue {queue!r} is {job.state}; only a failed or cancelled job can be tried again"
        )
    return job.retried_as


@contextmanager
def about_queue(queue: str, purpose: str, *, role_option: str = WORKER_ROLE_OPTION) -> Generator[None]:
    """Raise our errors for what went wrong with a queue; one that is missing is an `UnknownQueueError`."""
    with translated(purpose, role_option=role_option):
        try:
            yield
        except asyncpg.UndefinedTableError as error:
            raise UnknownQueueError(
                f"the database has no queue {queue!r}; create it with `flowworker flows compile MODULE:OBJECT`"
            ) from error


async def _folded(connection: AnyConnection, queue: str) -> str:
    """A queue's name in small letters, as the database makes them for its table."""
    queue_table(queue)  # refuses what can be no queue
    return queue if queue.isascii() else await connection.fetchval(load("catalogue/folded"), queue)


def _jobs_statement(queue: str) -> str:
    return fill("client/jobs", queue=queue_table(queue), archive=archive_table(queue))


def _job(row: asyncpg.Record) -> Job:
    values = dict(row)
    milliseconds: float | None = values.pop("duration_ms")
    return Job(
        state=JobState(values.pop("state")),
        payload_json=values.pop("payload").encode(),
        headers_json=_json(values.pop("headers")),
        result_json=_json(values.pop("result")),
        duration=None if milliseconds is None else milliseconds / 1000,
        **values,
    )


def _json(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
