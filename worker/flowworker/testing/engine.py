"""A worker without its loops: claims, runs handlers through the real executor, finishes, and lets no one wait.

Handlers run for real. Everything between them is virtual: when nothing runs and nothing can be claimed, the clock
jumps to the moment at which the next task is due. A test with backoffs of minutes takes milliseconds, and every run of
it starts each attempt at the same virtual second.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from flowworker.database.records import ClaimedTask, Receipt, Released, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.errors import InternalError
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.source import Source
from flowworker.runtime.workload import Workload, router_of
from flowworker.testing import memory_json
from flowworker.testing.results import Attempt, attempt_of


class VirtualClock:
    """Seconds that pass only when `advance` is called."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Seconds since the start."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class Engine:
    """Runs everything that a source has to give."""

    def __init__(
        self, workload: Workload, source: Source, clock: VirtualClock, *, max_concurrency: int, timeout: float | None
    ) -> None:
        """Belong to the running event loop.

        Args:
            workload: what the source serves.
            source: where tasks come from; its clock is `clock`.
            clock: virtual time.
            max_concurrency: handlers at once.
            timeout: seconds of real time for each attempt; None takes the flow's or queue's.
        """
        self._source = source
        self._clock = clock
        self._timeout = timeout
        self._held_tasks = HeldTasks(max_concurrency)
        self._executor = Executor(
            self,
            router=router_of(workload),
            held_tasks=self._held_tasks,
            worker_name="test",
            inputs=RunInputs(source.flow_input, _decoder(workload)),
            clock=time.monotonic,
        )
        self._results: list[tuple[HeldTask, TaskResult]] = []
        self._something = asyncio.Event()
        self._launches = count()
        self._launched: dict[int, tuple[int, float]] = {}
        """By message, for the attempt under way: its number in the order of launches, and virtual seconds."""
        self._attempts: dict[int, Attempt] = {}

    async def run(self) -> list[Attempt]:
        """Work until there is nothing left to do.

        Returns:
            All attempts in the order in which they started.

        Raises:
            InternalError: handlers that ignore their timeout have taken every slot.
        """
        try:
            while await self._turn():
                pass
        finally:
            await self._executor.close()
        return [self._attempts[launch] for launch in sorted(self._attempts)]

    async def _turn(self) -> bool:
        if await self._claim() or await self._finish():
            return True
        due = await self._source.next_due()
        if due is None:
            return False
        self._clock.advance(due)
        return True

    async def _claim(self) -> bool:
        if self._held_tasks.exhausted:
            raise InternalError("handlers that ignore their timeout have taken every slot")
        if not (free := self._held_tasks.free):
            return False
        claim = await self._source.claim(free, self._held_tasks.message_ids())
        for task in claim.tasks:
            self._launch(task)
        return bool(claim.tasks)

    def _launch(self, task: ClaimedTask) -> None:
        task = task if self._timeout is None else replace(task, timeout=self._timeout)
        self._launched[task.msg_id] = next(self._launches), self._clock()
        self._executor.launch(self._held_tasks.add(task, time.monotonic()))

    async def _finish(self) -> bool:
        """Write what has ended; wait for it while handlers run."""
        if not self._results and not self._held_tasks.in_flight:
            return False
        await self._something.wait()
        self._something.clear()
        results, self._results = self._results, []
        finish = await self._source.finish([result for _, result in results])
        for (held_task, _), receipt in zip(results, finish.receipts, strict=True):
            self._settle(held_task, receipt)
        for end in finish.ended_runs:
            for held_task in self._held_tasks.of_run(end.run_id):
                self._executor.supersede(held_task, "its run has ended")
        return True

    def _settle(self, held_task: HeldTask, receipt: Receipt) -> None:
        self._held_tasks.disown(held_task)
        launch, started_at = self._launched[held_task.task.msg_id]
        self._attempts[launch] = attempt_of(receipt, started_at)

    def started(self, held_task: HeldTask) -> None:
        """Note nothing: the order was noted at the launch."""

    def finished(self, held_task: HeldTask, result: TaskResult) -> None:
        """Keep an outcome for the next write."""
        self._results.append((held_task, result))
        self._something.set()

    def superseded(self, held_task: HeldTask, duration: float) -> None:
        """Settle what a handler did whose run has ended, and that was stopped."""
        result = TaskResult(task=held_task.task, outcome=Released(reason="its run has ended"))
        self._settle(held_task, Receipt(result=result, verdict=Verdict.SUPERSEDED))
        self._something.set()

    def exhausted(self) -> None:
        """Leave it to the next claim, which finds no slot."""


def _decoder(workload: Workload) -> Callable[[bytes], Any]:
    return workload.decode_input if isinstance(workload, Flow) else memory_json.loads
