"""What commands print, kept as files: a change of output is a change to be looked at."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from syrupy.assertion import SnapshotAssertion

from flowworker.cli import workers
from flowworker.cli.flows import FLOW_COLUMNS, compare, comparison_text
from flowworker.cli.jobs_view import job_columns, job_text
from flowworker.cli.output import as_json, as_table
from flowworker.cli.runs_view import changes, run_columns, run_text
from flowworker.database.jobs_admin import Job, JobState
from flowworker.database.records import RunStatus, SourceKind
from flowworker.database.runs import (
    FlowSummary,
    Run,
    RunDetails,
    RunSummary,
    StepState,
    StepStatus,
    TaskState,
    TaskStatus,
)
from flowworker.database.workers_admin import WorkerReport
from flowworker.definition.shape import FlowShape, StepShape
from flowworker.definition.step import StepKind

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = START + timedelta(hours=2, minutes=5)
RUN_ID = UUID(int=7)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


RUN = Run(
    run_id=RUN_ID,
    flow_slug="site_report",
    status=RunStatus.STARTED,
    input_json=b'{"urls": [1]}',
    output_json=None,
    remaining_steps=2,
    started_at=START,
    completed_at=None,
    failed_at=None,
)
COMPLETED = Run(
    run_id=RUN_ID,
    flow_slug="site_report",
    status=RunStatus.COMPLETED,
    input_json=b'{"urls": [1]}',
    output_json=b'{"total": 18446744073709551617}',
    remaining_steps=0,
    started_at=START,
    completed_at=after(200.5),
    failed_at=None,
)
FAILED = Run(
    run_id=RUN_ID,
    flow_slug="site_report",
    status=RunStatus.FAILED,
    input_json=b"null",
    output_json=None,
    remaining_steps=2,
    started_at=START,
    completed_at=None,
    failed_at=after(4),
    error="no route\nto host",
)


def step(
    slug: str, status: StepStatus, *, done: int = 0, of: int | None = None, error: str | None = None,
    skipped: int = 0, cancelled: int = 0,
) -> StepState:  # fmt: skip
    ended = after(2) if status in {StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED} else None
    return StepState(
        step_slug=slug,
        kind="map" if slug == "fetch" else "single",
        status=status,
        dependencies=(),
        initial_tasks=of,
        queued=0,
        started=0,
        completed=done,
        failed=0,
        skipped=skipped,
        cancelled=cancelled,
        attempts=done,
        error=error,
        skip_reason="handler_failed" if status is StepStatus.SKIPPED else None,
        started_at=None if status is StepStatus.CREATED else after(1),
        completed_at=ended if status is StepStatus.COMPLETED else None,
        failed_at=ended if status is StepStatus.FAILED else None,
        skipped_at=ended if status is StepStatus.SKIPPED else None,
    )


FAILED_TASK = TaskState(
    step_slug="fetch",
    task_index=12,
    status=TaskStatus.FAILED,
    attempts=3,
    error="ValueError: " + "very long " * 20,
    output_json=None,
    queued_at=START,
    started_at=after(1),
    completed_at=None,
    failed_at=after(1.25),
    worker_id=UUID(int=1),
)
AT_WORK = RunDetails(
    run=RUN,
    steps=[
        step("urls", StepStatus.COMPLETED, done=1, of=1),
        step("fetch", StepStatus.STARTED, done=2, of=3),
        step("total", StepStatus.CREATED),
    ],
    tasks=[],
)
ENDED = RunDetails(
    run=COMPLETED,
    steps=[
        step("urls", StepStatus.COMPLETED, done=1, of=1),
        step("fetch", StepStatus.COMPLETED, done=3, of=3),
        step("total", StepStatus.COMPLETED, done=1, of=1),
    ],
    tasks=[],
)
BROKEN = RunDetails(
    run=FAILED,
    steps=[
        step("urls", StepStatus.COMPLETED, done=1, of=1),
        step("fetch", StepStatus.FAILED, of=3, error="no route\nto host"),
        step("total", StepStatus.CREATED),
    ],
    tasks=[FAILED_TASK],
)

SKIPPING = RunDetails(
    run=COMPLETED,
    steps=[
        step("urls", StepStatus.COMPLETED, done=1, of=1),
        step("fetch", StepStatus.SKIPPED, done=1, of=4, skipped=2, error="no route"),
        step("total", StepStatus.COMPLETED, done=1, of=1),
    ],
    tasks=[],
)
CANCELLED = RunDetails(
    run=FAILED,
    steps=[
        step("urls", StepStatus.FAILED, of=1, error="no route"),
        step("fetch", StepStatus.STARTED, done=1, of=4, cancelled=3),
        step("total", StepStatus.CREATED),
    ],
    tasks=[],
)


@pytest.mark.parametrize(
    "details",
    [AT_WORK, ENDED, BROKEN, SKIPPING, CANCELLED],
    ids=["at work", "completed", "failed", "skipping", "cancelled"],
)
def test_runs_show(details: RunDetails, snapshot: SnapshotAssertion) -> None:
    assert run_text(details, NOW) == snapshot


def test_runs_show_as_json(snapshot: SnapshotAssertion) -> None:
    assert as_json(BROKEN) == snapshot


def test_runs_watch_in_a_pipe(snapshot: SnapshotAssertion) -> None:
    looks = [None, AT_WORK, AT_WORK, ENDED]
    lines = [line for before, now in pairwise(looks) if now for line in changes(before, now)]
    assert "\n".join(lines) == snapshot


def test_runs_list(snapshot: SnapshotAssertion) -> None:
    runs = [
        RunSummary(
            run_id=run.run_id,
            flow_slug=run.flow_slug,
            status=run.status,
            steps=3,
            remaining_steps=run.remaining_steps,
            started_at=run.started_at,
            completed_at=run.completed_at,
            failed_at=run.failed_at,
            error=run.error,
        )
        for run in (RUN, COMPLETED, FAILED)
    ]
    assert as_table(run_columns(NOW), runs) == snapshot


def test_an_empty_list_is_its_titles(snapshot: SnapshotAssertion) -> None:
    assert as_table(run_columns(NOW), []) == snapshot
    assert as_json([]) == "[]"


def job(state: JobState, **more: object) -> Job:
    values: dict[str, object] = {
        "msg_id": 1042,
        "state": state,
        "enqueued_at": START,
        "visible_at": None,
        "ended_at": None,
        "attempts": 0,
        "payload_json": b'{"to": "a@example.org", "subject": "A longer one than fits into the column"}',
        "headers_json": None,
        "result_json": None,
        "error": None,
        "stacktrace": None,
        "duration": None,
        "worker_id": None,
        "retried_as": None,
    }
    return Job(**(values | more))  # pyright: ignore[reportArgumentType]


JOBS = [
    job(JobState.WAITING),
    job(JobState.DELAYED, visible_at=after(60), attempts=1, error="busy", headers_json=b'{"traceparent": "00-1"}'),
    job(JobState.DONE, ended_at=after(3), attempts=2, result_json=b"false", duration=0.25),
    job(
        JobState.FAILED,
        ended_at=after(3),
        attempts=5,
        duration=61.5,
        error="ValueError: no such\nmailbox",
        stacktrace="Traceback (most recent call last):\n  ...\nValueError: no such\nmailbox\n",
        retried_as=1050,
    ),
]


def test_jobs_list(snapshot: SnapshotAssertion) -> None:
    assert as_table(job_columns(NOW), JOBS) == snapshot


@pytest.mark.parametrize("shown", JOBS, ids=[job.state for job in JOBS])
def test_jobs_show(shown: Job, snapshot: SnapshotAssertion) -> None:
    assert job_text(shown) == snapshot


def test_workers_list(snapshot: SnapshotAssertion) -> None:
    report = WorkerReport(
        worker_id=UUID(int=3),
        worker_name="site_report-1",
        kind=SourceKind.FLOW,
        slug="site_report",
        state="draining",
        in_flight=3,
        slots=10,
        completed=1234,
        failed=5,
        pod_name="site-report-7c9f1a-x2v4l",
        pod_uid="u-1",
        version="0.1.0",
        last_error="connection refused",
        started_at=START,
        reported_at=START,
        age=2.25,
        drain_until=after(30),
        drain_reason="maintenance",
    )
    assert as_table(workers.COLUMNS, [report]) == snapshot
    assert as_json([report]) == snapshot(name="json")


def test_flows_list(snapshot: SnapshotAssertion) -> None:
    flow = FlowSummary(
        flow_slug="site_report", steps=3, max_attempts=3, base_delay=5, timeout=60, active_runs=12, workers=2
    )
    assert as_table(FLOW_COLUMNS, [flow]) == snapshot


def test_flows_diff(snapshot: SnapshotAssertion) -> None:
    def shape(*steps: StepShape) -> FlowShape:
        return FlowShape(slug="site_report", steps=steps)

    urls = StepShape(slug="urls", kind=StepKind.SINGLE)
    fetch = StepShape(slug="fetch", kind=StepKind.MAP, dependencies=("urls",))
    other = StepShape(slug="fetch", kind=StepKind.SINGLE)
    compared = [compare(shape(urls, fetch), found) for found in (shape(urls, fetch), shape(urls, other), None)]
    assert "\n".join(map(comparison_text, compared)) == snapshot
