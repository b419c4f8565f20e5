"""Jobs as text. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from flowworker.cli.output import Column, ago, one_line, span, stamp
from flowworker.database.cancelling import CancelledJob
from flowworker.database.jobs_admin import Job

TEXT_LIMIT = 500
"""Longest payload or result shown as text."""


def job_columns(now: datetime) -> Sequence[Column[Job]]:
    """Columns of a list of jobs."""
    return (
        Column(title="JOB", cell=lambda job: job.msg_id, right=True),
        Column(title="STATE", cell=lambda job: job.state),
        Column(title="ATTEMPTS", cell=lambda job: job.attempts, right=True),
        Column(title="AGE", cell=lambda job: ago(job.enqueued_at, now), right=True),
        Column(title="PAYLOAD", cell=lambda job: one_line(job.payload_json.decode(), 40)),
        Column(title="ERROR", cell=lambda job: one_line(job.error or "", 50)),
    )


def job_text(job: Job) -> str:
    """One job in full."""
    return "\n".join(_lines(job))


def cancelled_text(job: CancelledJob) -> str:
    """What a cancellation did, or has done before."""
    subject = f"job {job.msg_id} of queue {job.queue}"
    if not job.is_new:
        reason = "" if job.reason is None else f": {one_line(job.reason)}"
        return f"{subject} was cancelled before, at {stamp(job.requested_at)} by {job.actor}{reason}"
    ran = "it was running, and its handler is notified within five seconds" if job.was_running else "it was waiting"
    return f"{subject} is cancelled: {ran}"


def _lines(job: Job) -> Iterator[str]:
    yield f"job:      {job.msg_id}"
    yield f"state:    {job.state}"
    yield f"attempts: {job.attempts}"
    yield f"enqueued: {stamp(job.enqueued_at)}"
    if job.visible_at is not None:
        yield f"visible:  {stamp(job.visible_at)}"
    if job.ended_at is not None:
        yield f"ended:    {stamp(job.ended_at)}"
    if job.duration is not None:
        yield f"took:     {span(job.duration)}"
    yield f"payload:  {one_line(job.payload_json.decode(), TEXT_LIMIT)}"
    if job.headers_json is not None:
        yield f"headers:  {one_line(job.headers_json.decode(), TEXT_LIMIT)}"
    if job.result_json is not None:
        yield f"result:   {one_line(job.result_json.decode(), TEXT_LIMIT)}"
    if job.retried_as is not None:
        yield f"retried:  as job {job.retried_as}"
    if job.error is not None:
        yield f"error:    {one_line(job.error, TEXT_LIMIT)}"
    if job.stacktrace:
        yield from ("", job.stacktrace.rstrip())
