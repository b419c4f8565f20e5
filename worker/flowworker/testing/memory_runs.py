"""pgflow's state machine in memory: what `start_flow`, `start_tasks`, `complete_task` and `fail_task` do to a run.

Follows core 0.8, including what one might call its quirks: tasks of a failed run keep their status, and a single step
that feeds a map but returns no list fails the run at once. Conditions follow core 0.14: they are looked at before maps
over nothing are completed, so that what such a map alone makes ready starts whatever its conditions say. What a skipped
step leaves behind follows 0.15.1.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from flowworker.database.records import RunStatus
from flowworker.definition.conditions import Consequence
from flowworker.definition.flow import Flow
from flowworker.definition.step import AnyStep, StepKind
from flowworker.errors import DataError
from flowworker.testing import memory_json
from flowworker.testing.memory_queue import MessageQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """A moment: what the clock shows, and a stamp that differs for every moment although the clock may stand still."""

    seconds: float
    stamp: float


class State(StrEnum):
    """States of steps and tasks, in pgflow's words."""

    CREATED = "created"
    QUEUED = "queued"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class SkipReason(StrEnum):
    """Why a step was skipped, in pgflow's words."""

    CONDITION_UNMET = "condition_unmet"
    HANDLER_FAILED = "handler_failed"
    DEPENDENCY_SKIPPED = "dependency_skipped"


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One task of a step. Times are stamps of `Instant`."""

    run: "Run"
    step: "StepRun"
    index: int
    msg_id: int
    status: State = State.QUEUED
    attempts: int = 0
    worker_id: UUID | None = None
    started_at: float | None = None
    ended_at: float | None = None
    output: Any = None
    error: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class StepRun:
    """One step of one run."""

    definition: AnyStep
    remaining_deps: int
    initial_tasks: int | None
    """None until a map's dependency determines how many."""
    status: State = State.CREATED
    remaining_tasks: int | None = None
    error: str | None = None
    skip_reason: SkipReason | None = None
    tasks: list[Task] = field(default_factory=list[Task])

    @property
    def is_map(self) -> bool:
        """Whether it has one task per element."""
        return self.definition.kind is StepKind.MAP

    @property
    def output(self) -> Any:
        """Its output once it is completed: of a map the list of its tasks' outputs."""
        outputs = [task.output for task in self.tasks if task.status is State.COMPLETED]
        return outputs if self.is_map else outputs[0]


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One run of a flow. Times are stamps of `Instant`."""

    run_id: UUID
    flow: Flow
    queue: MessageQueue
    input: Any
    started_at: float
    status: RunStatus = RunStatus.STARTED
    ended_at: float | None = None
    output: Any = None
    steps: dict[str, StepRun] = field(default_factory=dict[str, StepRun])

    @property
    def error(self) -> str | None:
        """What failed it: the error of its failed step."""
        return next((step.error for step in self.steps.values() if step.status is State.FAILED), None)

    def tasks(self) -> Iterator[Task]:
        """All tasks of all steps."""
        return (task for step in self.steps.values() for task in step.tasks)


def start_run(flow: Flow, queue: MessageQueue, run_id: UUID, value: Any, *, at: Instant) -> Run:
    """Create a run with all its steps, and queue the tasks of those that are ready.

    Raises:
        DataError: a root map needs a list.
    """
    run = Run(run_id=run_id, flow=flow, queue=queue, input=value, started_at=at.stamp)
    for step in flow.steps.values():
        root_map = step.kind is StepKind.MAP and not step.dependencies
        if root_map and not isinstance(value, list):
            raise DataError(f"flow {flow.slug!r} maps over its input, which must be a list, not {value!r}")
        unknown = step.kind is StepKind.MAP and not root_map
        initial = len(value) if root_map else None if unknown else 1  # pyright: ignore[reportUnknownArgumentType]
        run.steps[step.slug] = StepRun(definition=step, remaining_deps=len(step.dependencies), initial_tasks=initial)
    _advance(run, at=at)
    return run


def complete(task: Task, output: Any, *, at: Instant) -> None:
    """Complete a started task of a living run, with everything that follows from it."""
    hungry = _map_that_starves(task, output)
    if hungry is not None:
        return _violate(task, output, hungry, at=at)
    task.status, task.output, task.ended_at = State.COMPLETED, output, at.stamp
    task.run.queue.move_to_archive([task.msg_id])
    step = task.step
    assert step.remaining_tasks is not None
    step.remaining_tasks -= 1
    if step.remaining_tasks == 0:
        step.status = State.COMPLETED
        _feed_dependants(task.run, step)
    return _advance(task.run, at=at)


def fail(task: Task, error: str, *, at: Instant, final: bool = False, retry_after: float | None = None) -> float | None:
    """Fail a started task's attempt.

    Returns:
        Seconds until the next attempt; None when there is none, and the step is skipped or the run has failed.
    """
    task.error = error
    if final:
        task.attempts = max(task.attempts, max_attempts(task.step.definition, task.run.flow))
    if task.run.status is not RunStatus.STARTED:
        # Another task of the same batch has just failed the run.
        task.status, task.ended_at = State.FAILED, at.stamp
        return None
    if task.attempts >= max_attempts(task.step.definition, task.run.flow):
        task.status, task.ended_at = State.FAILED, at.stamp
        _exhaust(task.run, task.step, error, at=at)
        return None
    task.status, task.started_at = State.QUEUED, None
    base = task.step.definition.options.base_delay
    backoff = (task.run.flow.options.base_delay if base is None else base) * 2.0**task.attempts
    delay = backoff if retry_after is None else retry_after
    task.run.queue.hide(task.msg_id, until=at.seconds + delay)
    return delay


def release(task: Task, *, at: Instant, wait: float = 0.0) -> None:
    """Give a started task back, its attempt not charged; it may start again after `wait` seconds."""
    task.status, task.started_at, task.worker_id = State.QUEUED, None, None
    task.attempts = max(task.attempts - 1, 0)
    task.run.queue.hide(task.msg_id, until=at.seconds + wait)


def input_of(task: Task) -> Any:
    """The element of a map task, the outputs of a single step's dependencies."""
    step = task.step.definition
    if not task.step.is_map:
        return _outputs(task.run, step)
    source = task.run.steps[step.dependencies[0]].output if step.dependencies else task.run.input
    return source[task.index]


def max_attempts(step: AnyStep, flow: Flow) -> int:
    """A step's own limit, or its flow's."""
    own = step.options.max_attempts
    return flow.options.max_attempts if own is None else own


def timeout(step: AnyStep, flow: Flow) -> int:
    """A step's own timeout in seconds, or its flow's."""
    own = step.options.timeout
    return flow.options.timeout if own is None else own


def _map_that_starves(task: Task, output: Any) -> StepRun | None:
    if task.step.is_map or isinstance(output, list):
        return None
    slug = task.step.definition.slug
    dependants = (step for step in task.run.steps.values() if slug in step.definition.dependencies)
    return next((step for step in dependants if step.is_map and step.initial_tasks is None), None)


def _violate(task: Task, output: Any, hungry: StepRun, *, at: Instant) -> None:
    produced = _json_type(output)
    task.status, task.output, task.ended_at = State.FAILED, output, at.stamp
    task.error = f"[TYPE_VIOLATION] Produced {produced} instead of array"
    task.step.status = State.FAILED
    task.step.error = (
        f"[TYPE_VIOLATION] Map step {hungry.definition.slug} expects array input but dependency "
        f"{task.step.definition.slug} produced {produced}"
    )
    _end(task.run, RunStatus.FAILED, at=at)


def _json_type(value: Any) -> str:
    names = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
    return names.get(memory_json.dumps(value)[:1].decode(), "number")


def _feed_dependants(run: Run, done: StepRun) -> None:
    for step in _dependants(run, done):
        step.remaining_deps -= 1
        if step.is_map:
            step.initial_tasks = len(done.output)


def _exhaust(run: Run, step: StepRun, error: str, *, at: Instant) -> None:
    """What follows where the last attempt of a task has failed."""
    step.error = error
    match step.definition.conditions.when_exhausted:
        case Consequence.FAIL:
            step.status = State.FAILED
            return _end(run, RunStatus.FAILED, at=at)
        case Consequence.SKIP:
            _skip(run, step, SkipReason.HANDLER_FAILED)
            _starve_dependants(run, step)
        case Consequence.SKIP_CASCADE:
            _skip_cascade(run, step, SkipReason.HANDLER_FAILED)
    return _advance(run, at=at)


def _resolve_conditions(run: Run, *, at: Instant) -> None:
    """Skip the steps that are ready although a condition is not met, until none is left; or fail the run."""
    while True:
        unmet = _unmet(run)
        if failing := next((step for step in unmet if _when_unmet(step) is Consequence.FAIL), None):
            failing.status, failing.error = State.FAILED, "Condition not met"
            return _end(run, RunStatus.FAILED, at=at)
        skipped = [step for step in unmet if _when_unmet(step) is Consequence.SKIP]
        for step in skipped:
            _skip(run, step, SkipReason.CONDITION_UNMET)
            _starve_dependants(run, step)
        for step in _unmet(run):
            if _when_unmet(step) is Consequence.SKIP_CASCADE:
                _skip_cascade(run, step, SkipReason.CONDITION_UNMET)
        if not skipped:
            return None


def _when_unmet(step: StepRun) -> Consequence:
    return step.definition.conditions.when_unmet


def _unmet(run: Run) -> list[StepRun]:
    ready = (step for step in run.steps.values() if step.status is State.CREATED and step.remaining_deps == 0)
    return [step for step in ready if not _is_met(run, step.definition)]


def _is_met(run: Run, step: AnyStep) -> bool:
    patterns = {"when": step.conditions.when, "unless": step.conditions.unless}
    given = {name: memory_json.loads(pattern) for name, pattern in patterns.items() if pattern is not None}
    if not given:
        return True
    value = _outputs(run, step) if step.dependencies else run.input
    return all(memory_json.contains(value, pattern) is (name == "when") for name, pattern in given.items())


def _outputs(run: Run, step: AnyStep) -> dict[str, Any]:
    """Outputs of the dependencies that were not skipped."""
    found = {slug: run.steps[slug] for slug in step.dependencies}
    return {slug: dependency.output for slug, dependency in found.items() if dependency.status is State.COMPLETED}


def _skip(run: Run, step: StepRun, reason: SkipReason) -> None:
    step.status, step.skip_reason, step.remaining_tasks = State.SKIPPED, reason, None
    for task in step.tasks:
        if task.status in (State.QUEUED, State.STARTED):
            task.status = State.SKIPPED
    run.queue.move_to_archive(task.msg_id for task in step.tasks)


def _starve_dependants(run: Run, skipped: StepRun) -> None:
    for step in _dependants(run, skipped):
        step.remaining_deps -= 1
        if step.is_map:
            step.initial_tasks = 0


def _skip_cascade(run: Run, step: StepRun, reason: SkipReason) -> None:
    """Skip a step and all that depend on it, directly or not."""
    if step.status in (State.CREATED, State.STARTED):
        _skip(run, step, reason)
        for dependant in _dependants(run, step):
            _skip_cascade(run, dependant, SkipReason.DEPENDENCY_SKIPPED)


def _dependants(run: Run, step: StepRun) -> list[StepRun]:
    return [other for other in run.steps.values() if step.definition.slug in other.definition.dependencies]


def _advance(run: Run, *, at: Instant) -> None:
    """Do what the end of a step leads to.

    Resolve conditions, complete steps without tasks until none is left, start those that are ready, end the run when
    all is done.
    """
    _resolve_conditions(run, at=at)
    if run.status is not RunStatus.STARTED:
        return
    while empty := [step for step in run.steps.values() if _is_ready(step) and step.initial_tasks == 0]:
        for step in empty:
            step.status, step.remaining_tasks = State.COMPLETED, 0
            _feed_dependants(run, step)
    for step in sorted(filter(_is_ready, run.steps.values()), key=lambda step: step.definition.slug):
        _start(run, step, at=at)
    if all(step.status in (State.COMPLETED, State.SKIPPED) for step in run.steps.values()):
        needed = {slug for step in run.steps.values() for slug in step.definition.dependencies}
        done = {slug: step for slug, step in run.steps.items() if step.status is State.COMPLETED}
        leaves = {slug: step.output for slug, step in done.items() if slug not in needed}
        run.output = leaves or None
        _end(run, RunStatus.COMPLETED, at=at)


def _is_ready(step: StepRun) -> bool:
    return step.status is State.CREATED and step.remaining_deps == 0 and step.initial_tasks is not None


def _start(run: Run, step: StepRun, *, at: Instant) -> None:
    assert step.initial_tasks is not None
    step.status, step.remaining_tasks = State.STARTED, step.initial_tasks
    for index in range(step.initial_tasks):
        body = {
            "flow_slug": run.flow.slug,
            "run_id": str(run.run_id),
            "step_slug": step.definition.slug,
            "task_index": index,
        }
        delay = float(step.definition.options.start_delay or 0)
        msg_id = run.queue.send(json.dumps(body).encode(), now=at.seconds, delay=delay)
        step.tasks.append(Task(run=run, step=step, index=index, msg_id=msg_id))


def _end(run: Run, status: RunStatus, *, at: Instant) -> None:
    run.status, run.ended_at = status, at.stamp
    run.queue.move_to_archive(task.msg_id for task in run.tasks())
