"""The flows of a database and their runs: starting runs, and reading both back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import translated
from flowworker.database.records import RunStatus
from flowworker.database.statements import fill, load
from flowworker.definition.json_text import decoded
from flowworker.errors import DataError, UnknownFlowError, UnknownRunError

READ_RUN = fill("client/run", error=load("client/run_error"))


class StepStatus(StrEnum):
    """Status of a step of a run, in pgflow's words."""

    CREATED = "created"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class TaskStatus(StrEnum):
    """Status of one task of a step, in pgflow's words."""

    QUEUED = "queued"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSummary:
    """One flow of the database."""

    flow_slug: str
    steps: int
    max_attempts: int
    base_delay: int
    """Seconds."""
    timeout: int
    """Seconds."""
    active_runs: int
    workers: int
    """Workers that report to serve it and have not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a flow."""

    run_id: UUID
    flow_slug: str
    status: RunStatus
    input_json: bytes
    output_json: bytes | None
    """JSON object of the outputs of the flow's last steps; None until the run is completed."""
    remaining_steps: int
    started_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None
    error: str | None = None
    """What the first failed task said; None unless the run failed."""

    @property
    def input(self) -> Any:
        """The run's input, decoded."""
        return decoded(self.input_json)

    @property
    def output(self) -> Any:
        """The run's output, decoded; None until the run is completed."""
        return None if self.output_json is None else decoded(self.output_json)

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to this run any more."""
        return self.status is not RunStatus.STARTED

    @property
    def ended_at(self) -> datetime | None:
        """When it was completed or failed."""
        return self.completed_at or self.failed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run in a list."""

    run_id: UUID
    flow_slug: str
    status: RunStatus
    steps: int
    remaining_steps: int
    started_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None
    error: str | None = None
    """What the first failed task said; None unless the run failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """One step of a run, with its tasks counted."""

    step_slug: str
    kind: str
    """`single` or `map`."""
    status: StepStatus
    dependencies: Sequence[str]
    initial_tasks: int | None
    """How many tasks the step has; None while a map waits for the list it runs over."""
    queued: int
    started: int
    completed: int
    failed: int
    skipped: int
    """Left behind when the step was skipped (core 0.15.1 and newer)."""
    cancelled: int
    """Left behind when the run failed (core 0.15.1 and newer)."""
    attempts: int
    """Attempts of all its tasks together."""
    error: str | None
    skip_reason: str | None
    """`condition_unmet`, `handler_failed` or `dependency_skipped`."""
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    skipped_at: datetime | None
    when_json: bytes | None = None
    """JSON object that the step's input must contain for it to run."""
    unless_json: bytes | None = None
    """JSON object that it must not contain."""

    @property
    def ended_at(self) -> datetime | None:
        """When the step was done with, well or badly; None also for what a failed run has left unfinished."""
        return self.completed_at or self.failed_at or self.skipped_at


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """One task of a run."""

    step_slug: str
    task_index: int
    status: TaskStatus
    attempts: int
    error: str | None
    output_json: bytes | None
    queued_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    worker_id: UUID | None
    """Who claimed it last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """A run, its steps in the flow's order, and those of its tasks that need attention first."""

    run: Run
    steps: Sequence[StepState]
    tasks: Sequence[TaskState]
    retry_of: UUID | None = None
    """The run that this one does again."""
    retried_as: UUID | None = None
    """The run that does this one again."""


_ID_STEP = 951_486_860_854_490_831
"""Distance between the id of a run and that of its retry."""
_ID_SPACE = 1 << 60
"""The low bits of a UUID that hold neither version nor variant (RFC 9562)."""


def retry_id(run_id: UUID) -> UUID:
    """Id of the run that does a run again: always the same one, so that a second retry finds the first."""
    return _moved(run_id, _ID_STEP)


def retried_id(run_id: UUID) -> UUID:
    """Id of the run that a run would do again; the inverse of `retry_id`."""
    return _moved(run_id, -_ID_STEP)


def _moved(run_id: UUID, distance: int) -> UUID:
    low = run_id.int % _ID_SPACE
    return UUID(int=run_id.int - low + (low + distance) % _ID_SPACE)


async def list_flows(connection: AnyConnection) -> list[FlowSummary]:
    """Every flow of the database, by slug."""
    with translated("list flows"):
        rows = await connection.fetch(load("client/flows"))
    return [FlowSummary(**row) for row in rows]


async def start_run(
    connection: AnyConnection, flow_slug: str, input_json: bytes, run_id: UUID | None
) -> tuple[Run, bool]:
    """Start a run in the transaction that is open, or in one of its own.

    Returns:
        The run, and whether this call started it; False when a run of that id existed already.

    Raises:
        UnknownFlowError: the database has no such flow.
        DataError: the run id belongs to a run of another flow, or pgflow refused the input.
    """
    with translated(f"start a run of flow {flow_slug!r}"):
        try:
            # A savepoint where the caller is in a transaction: a refusal must not spoil that.
            async with connection.transaction():
                row = await connection.fetchrow(load("client/start_run"), flow_slug, input_json.decode(), run_id)
        except asyncpg.ForeignKeyViolationError as error:
            raise UnknownFlowError(
                f"the database has no flow {flow_slug!r}; create it with `flowworker flows compile MODULE:OBJECT`"
            ) from error
        except asyncpg.RaiseError as error:
            raise DataError(f"pgflow refused to start a run of {flow_slug!r}: {error}") from error
        except asyncpg.UniqueViolationError:
            if run_id is None:
                raise
            return await _existing_run(connection, flow_slug, run_id), False
    if row is None:
        raise DataError(f"pgflow started no run of {flow_slug!r}")
    return _run(row), True


async def _existing_run(connection: AnyConnection, flow_slug: str, run_id: UUID) -> Run:
    run = await read_run(connection, run_id)
    if run.flow_slug != flow_slug:
        raise DataError(f"run id {run_id} already belongs to a run of flow {run.flow_slug!r}, not of {flow_slug!r}")
    return run


async def read_run(connection: AnyConnection, run_id: UUID) -> Run:
    """Read one run.

    Raises:
        UnknownRunError: the database has no such run.
    """
    with translated("read a run"):
        row = await connection.fetchrow(READ_RUN, run_id)
    if row is None:
        raise unknown_run(run_id)
    return _run(row)


async def read_status(connection: AnyConnection, run_id: UUID) -> RunStatus:
    """Read one run's status alone.

    Raises:
        UnknownRunError: the database has no such run.
    """
    with translated("read a run"):
        status = await connection.fetchval(load("client/run_status"), run_id)
    if status is None:
        raise unknown_run(run_id)
    return RunStatus(status)


async def read_details(connection: AnyConnection, run_id: UUID, task_limit: int) -> RunDetails:
    """Read a run with its steps and at most `task_limit` of its tasks, all from one snapshot.

    Raises:
        UnknownRunError: the database has no such run.
    """
    with translated("read a run"):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            run = await read_run(connection, run_id)
            steps = await connection.fetch(load("client/run_steps"), run_id)
            tasks = await connection.fetch(load("client/run_tasks"), run_id, task_limit)
            linked = await connection.fetch(
                load("client/run_links"), run.flow_slug, [retried_id(run_id), retry_id(run_id)]
            )
    links = {row["run_id"] for row in linked}
    return RunDetails(
        run=run,
        steps=[_step(row) for row in steps],
        tasks=[_task(row) for row in tasks],
        retry_of=retried_id(run_id) if retried_id(run_id) in links else None,
        retried_as=retry_id(run_id) if retry_id(run_id) in links else None,
    )


def unknown_run(run_id: UUID) -> UnknownRunError:
    """The error about a run that does not exist."""
    return UnknownRunError(f"the database has no run {run_id}; list them with `flowworker runs list`")


def _run(row: asyncpg.Record) -> Run:
    values = dict(row)
    return Run(
        input_json=values.pop("input").encode(),
        output_json=_json(values.pop("output")),
        status=RunStatus(values.pop("status")),
        **values,
    )


def summary_of(row: asyncpg.Record) -> RunSummary:
    """A run in a list."""
    values = dict(row)
    return RunSummary(status=RunStatus(values.pop("status")), **values)


def _step(row: asyncpg.Record) -> StepState:
    values = dict(row)
    return StepState(
        status=StepStatus(values.pop("status")),
        dependencies=tuple(values.pop("dependencies")),
        when_json=_json(values.pop("when")),
        unless_json=_json(values.pop("unless")),
        **values,
    )


def _task(row: asyncpg.Record) -> TaskState:
    values = dict(row)
    return TaskState(status=TaskStatus(values.pop("status")), output_json=_json(values.pop("output")), **values)


def _json(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
