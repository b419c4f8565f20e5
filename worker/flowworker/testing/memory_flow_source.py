"""The source of a flow in memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import assert_never
from uuid import UUID

from flowworker.database.flow_results import TaskNow
from flowworker.database.headers import losses_of
from flowworker.database.leftovers import Leftover, treat
from flowworker.database.link import Limits
from flowworker.database.records import (
    ClaimedTask,
    Completed,
    Failed,
    FailureKind,
    Outcome,
    Peer,
    Receipt,
    Released,
    RunEnd,
    RunStatus,
    SourceKind,
    TaskResult,
    Verdict,
)
from flowworker.database.stranded import Fate, GiveBack, GiveUp, fate_of, waits
from flowworker.database.verdicts import receipt_of_row
from flowworker.definition.flow import Flow
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.flow_source import GRACE
from flowworker.testing import memory_json, memory_runs
from flowworker.testing.memory_base import MemorySource
from flowworker.testing.memory_queue import Message
from flowworker.testing.memory_runs import Run, State, Task
from flowworker.testing.memory_store import MemoryStore

READ_VISIBILITY = 5.0


class MemoryFlowSource(MemorySource):
    """Tasks of one flow for one worker."""

    def __init__(self, *, flow: Flow, worker_id: UUID, store: MemoryStore) -> None:
        """Serve a flow that the store knows."""
        super().__init__(kind=SourceKind.FLOW, slug=flow.slug, worker_id=worker_id, store=store)
        self._flow = flow

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Take at most `limit` tasks. See `Source.claim`."""
        at = self._store.now()
        if self._store.is_fenced(self._worker_id):
            return Claim(fenced=True, claimed_at=self._store.timestamp(at.stamp))
        messages = self._queue.read(limit, now=at.seconds, visibility=READ_VISIBILITY)
        by_message = {task.msg_id: task for run in self._runs() for task in run.tasks()}
        tasks: list[ClaimedTask] = []
        for message in messages:
            task = by_message.get(message.msg_id)
            if task is not None and self._startable(task):
                tasks.append(self._start(task, message))
            else:
                self._treat(task, message)
        kept = {*held, *(task.msg_id for task in tasks)}
        returned = [task for task in self._owned() if task.msg_id not in kept]
        for task in returned:
            memory_runs.release(task, at=self._store.now())
        unstartable = len(messages) - len(tasks)
        return Claim(
            tasks=tasks,
            read=len(messages),
            full=len(messages) >= limit,
            unstartable=unstartable,
            returned=len(returned),
            claimed_at=self._store.timestamp(self._store.now().stamp),
        )

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        receipts: dict[int, Receipt] = {}
        for kind in (Completed, Failed, Released):
            batch = {n: result for n, result in enumerate(results) if type(result.outcome) is kind}
            receipts.update(self._finish_batch(batch))
        in_order = [receipts[position] for position in range(len(results))]
        return Finish(receipts=in_order, ended_runs=self._ended_runs(in_order))

    async def flow_input(self, run_id: UUID) -> bytes:
        """The run's input as JSON.

        Raises:
            UnknownRunError: there is no such run.
        """
        return memory_json.dumps(self._store.run(run_id).input)

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        """Give back what the dead and no worker hold, and what this worker holds only here. See `Source.recover`."""
        lost = self._mark_lost(dead)
        released = failed = 0
        if held is not None and not self._store.is_fenced(self._worker_id):
            for task in [task for task in self._owned() if task.msg_id not in held()]:
                memory_runs.release(task, at=self._store.now())
                released += 1
        stranded = {
            task: self._fate(task)
            for run in self._runs()
            for task in run.tasks()
            if _is_running(task) and task.worker_id != self._worker_id and self._store.is_lost(task.worker_id)
        }
        apart = waits({task.msg_id: fate.losses for task, fate in stranded.items() if isinstance(fate, GiveBack)})
        for task, fate in stranded.items():
            match fate:
                case GiveBack(losses=losses):
                    self._queue.messages[task.msg_id].note({"losses": losses})
                    memory_runs.release(task, at=self._store.now(), wait=apart[task.msg_id])
                    released += 1
                case GiveUp(error=error):
                    memory_runs.fail(task, error, at=self._store.now(), final=True)
                    failed += 1
        return Recovery(released=released, failed=failed, settled=0 if held is None else self._settle(held), lost=lost)

    def _settle(self, held: Callable[[], Collection[int]]) -> int:
        """End what failed runs have left `started`."""
        ended = [
            task
            for run in self._runs()
            for task in run.tasks()
            if run.status is RunStatus.FAILED and task.status is State.STARTED and self._may_settle(task, held)
        ]
        for task in ended:
            task.status, task.error = State.FAILED, "the run had failed"
        return len(ended)

    def _may_settle(self, task: Task, held: Callable[[], Collection[int]]) -> bool:
        if task.worker_id == self._worker_id:
            return task.msg_id not in held()
        return self._store.is_lost(task.worker_id)

    def _runs(self) -> list[Run]:
        return [run for run in self._store.runs.values() if run.flow.slug == self.slug]

    def _owned(self) -> list[Task]:
        tasks = (task for run in self._runs() for task in run.tasks())
        return [task for task in tasks if _is_running(task) and task.worker_id == self._worker_id]

    def _startable(self, task: Task) -> bool:
        living = task.run.status is RunStatus.STARTED and task.status is State.QUEUED
        return living and task.step.definition.slug in self._flow.steps

    def _start(self, task: Task, message: Message) -> ClaimedTask:
        at, step = self._store.now(), task.step.definition
        task.status, task.attempts = State.STARTED, task.attempts + 1
        task.worker_id, task.started_at = self._worker_id, at.stamp
        timeout = memory_runs.timeout(step, task.run.flow)
        message.visible_at = at.seconds + timeout + GRACE
        return ClaimedTask(
            msg_id=message.msg_id,
            run_id=task.run.run_id,
            step_slug=step.slug,
            task_index=task.index,
            attempt=task.attempts,
            max_attempts=memory_runs.max_attempts(step, task.run.flow),
            timeout=float(timeout),
            losses=losses_of(message.headers),
            read_count=message.read_count,
            enqueued_at=self._store.timestamp(message.enqueued_at),
            visible_at=self._store.timestamp(message.visible_at),
            started_at=self._store.timestamp(at.stamp),
            input=memory_json.dumps(memory_runs.input_of(task)),
            flow_input=None if task.step.is_map else memory_json.dumps(task.run.input),
            headers=message.headers,
        )

    def _treat(self, task: Task | None, message: Message) -> None:
        now = self._store.now().seconds
        started_at = None if task is None else task.started_at
        leftover = Leftover(
            msg_id=message.msg_id,
            read_count=message.read_count,
            task_status=None if task is None else task.status,
            run_status=None if task is None else task.run.status,
            running_for=None if started_at is None else now - started_at,
            timeout=None if task is None else float(memory_runs.timeout(task.step.definition, task.run.flow)),
        )
        treatment = treat(leftover, grace=GRACE)
        if treatment.archive:
            self._queue.move_to_archive([message.msg_id])
        elif treatment.delay is not None:
            message.visible_at = now + treatment.delay

    def _find(self, claimed: ClaimedTask) -> Task | None:
        run = None if claimed.run_id is None else self._store.runs.get(claimed.run_id)
        return None if run is None else run.steps[claimed.step_slug].tasks[claimed.task_index]

    def _fenced(self, claimed: ClaimedTask) -> Task | None:
        task = self._find(claimed)
        if task is None:
            return None
        same = task.worker_id == self._worker_id and task.attempts == claimed.attempt and task.started_at is not None
        if not (_is_running(task) and same):
            return None
        return task if self._store.timestamp(task.started_at or 0.0) == claimed.started_at else None

    def _finish_batch(self, batch: Mapping[int, TaskResult]) -> dict[int, Receipt]:
        """As one statement does it: the fence of all first, then one after the other in the order of their tasks."""
        fenced = {n: task for n, result in batch.items() if (task := self._fenced(result.task)) is not None}
        receipts = {
            n: self._apply(fenced[n], batch[n], batch[n].outcome)
            for n in sorted(fenced, key=lambda n: _place(batch[n].task))
        }
        for n in batch.keys() - fenced.keys():
            known = self._find(batch[n].task)
            row = None if known is None else self._row(known)
            receipts[n] = receipt_of_row(batch[n], batch[n].outcome, row, self._worker_id)
        return receipts

    def _row(self, task: Task) -> TaskNow:
        return TaskNow(
            status=task.status,
            run_status=task.run.status,
            error=task.error,
            attempt=task.attempts,
            worker_id=task.worker_id,
            started_at=None if task.started_at is None else self._store.timestamp(task.started_at),
            written_at=None if task.ended_at is None else self._store.timestamp(task.ended_at),
        )

    def _ended_runs(self, receipts: Sequence[Receipt]) -> list[RunEnd]:
        """Runs that ended at the very moment at which one of these tasks did."""
        ended: dict[UUID, RunEnd] = {}
        for receipt in receipts:
            task = self._find(receipt.result.task)
            written = receipt.verdict in (Verdict.COMPLETED, Verdict.FAILED)
            if written and task is not None and task.ended_at == task.run.ended_at:
                ended[task.run.run_id] = _run_end(task.run)
        return list(ended.values())

    def _apply(self, task: Task, result: TaskResult, outcome: Outcome) -> Receipt:
        at = self._store.now()
        match outcome:
            case Completed(output=output):
                try:
                    value = memory_json.loads(output)
                except ValueError as error:
                    message = f"the database refused the output: {error}"
                    lower = Failed(kind=FailureKind.OUTPUT, message=message, stacktrace=None, duration=0.0)
                    return self._apply(task, result, lower)
                if not _is_running(task):
                    return Receipt(result=result, verdict=Verdict.SUPERSEDED)
                memory_runs.complete(task, value, at=at)
                violated = task.status is State.FAILED
                verdict = Verdict.FAILED if violated else Verdict.COMPLETED
                return Receipt(result=result, verdict=verdict, error=task.error if violated else None)
            case Failed() if task.status is State.SKIPPED:  # another task of the same batch has skipped the step
                return Receipt(result=result, verdict=Verdict.SUPERSEDED)
            case Failed():
                delay = memory_runs.fail(
                    task, outcome.message, at=at, final=outcome.final, retry_after=outcome.retry_after
                )
                verdict = Verdict.FAILED if delay is None else Verdict.RETRYING
                error = outcome.message if outcome is not result.outcome else None
                return Receipt(result=result, verdict=verdict, retry_in=delay, error=error)
            case Released():
                memory_runs.release(task, at=at, wait=outcome.wait)
                return Receipt(result=result, verdict=Verdict.RELEASED)
            case _:
                assert_never(outcome)

    def _fate(self, task: Task) -> Fate:
        is_loss = self._store.is_loss(task.worker_id, task.started_at or 0.0)
        return fate_of(losses_of(self._queue.messages[task.msg_id].headers), is_loss=is_loss)


def _place(task: ClaimedTask) -> tuple[str, str, int]:
    return str(task.run_id), task.step_slug, task.task_index


def _is_running(task: Task) -> bool:
    return task.status is State.STARTED and task.run.status is RunStatus.STARTED


def _run_end(run: Run) -> RunEnd:
    duration = (run.ended_at or run.started_at) - run.started_at
    return RunEnd(run_id=run.run_id, status=run.status, duration=duration, error=run.error)
