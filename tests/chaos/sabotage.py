"""Worker processes that are broken on purpose, one fault each: the harness must notice every one of them.

Run as `python -m tests.chaos.sabotage run …`, with the name of the sabotage in the environment.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Sequence

from flowworker.cli import main
from flowworker.database import flow_results, statements
from flowworker.database.link import Limits
from flowworker.database.records import Completed, Peer, TaskResult
from flowworker.runtime.execution.executions import Call
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.completer import Completer
from flowworker.runtime.loops.session import WorkerSession
from flowworker.runtime.source import Finish, Recovery
from flowworker.runtime.sources.flow_source import FlowSource
from flowworker.runtime.worker_lifecycle import WorkerLifecycle

VARIABLE = "CHAOS_SABOTAGE"

FENCE = re.compile(r"AND t\.(last_worker_id|attempts_count|started_at) = \S+")

SPOIL = "UPDATE pgflow.step_tasks SET output = '{}' WHERE run_id = ANY($1::uuid[]) AND status = 'completed'"
DECLARE = "UPDATE flowworker.workers SET state = 'lost' WHERE worker_id <> $1"

Held = Callable[[], Collection[int]]


def acknowledges_before_work() -> None:
    """Writes an output and then runs the handler."""
    launch = Executor.launch

    def acknowledge(self: Executor, held_task: HeldTask) -> None:
        outcome = Completed(output=b"{}", duration=0.0)
        self._sink.finished(held_task, TaskResult(task=held_task.task, outcome=outcome))  # pyright: ignore
        launch(self, held_task)

    Executor.launch = acknowledge


def ignores_the_attempt() -> None:
    """Completes whatever it once held, and does not care that it was declared dead."""
    fill = statements.fill

    def fill_without_fence(name: str, **parts: str) -> str:
        text = fill(name, **parts)
        return FENCE.sub("AND $1::uuid IS NOT NULL", text) if name == "flow/fenced_results" else text

    async def live_on(self: WorkerLifecycle, session: WorkerSession, reason: str) -> None:
        del self, session, reason

    def keep(self: Executor, held_task: HeldTask, reason: str) -> None:
        del self, held_task, reason

    flow_results.fill = fill_without_fence  # pyright: ignore
    WorkerLifecycle._rejoin_as_another = live_on  # pyright: ignore
    Executor.supersede = keep


def charges_losses() -> None:
    """Counts the death of a worker as an attempt."""
    fill = statements.fill

    def fill_without_refund(name: str, **parts: str) -> str:
        return fill(name, **parts).replace("greatest(t.attempts_count - 1, 0)", "t.attempts_count")

    flow_results.fill = fill_without_refund  # pyright: ignore


def forgets_results() -> None:
    """Drops what a handler returned."""

    def forget(self: Completer, held_task: HeldTask, result: TaskResult) -> None:
        del self, held_task, result

    Completer.submit = forget


def runs_twice() -> None:
    """Calls every handler two times."""
    call = Call.on_loop

    async def call_twice(self: Call) -> bytes:
        await call(self)
        return await call(self)

    Call.on_loop = call_twice


def never_recovers() -> None:
    """Leaves what the dead have left."""

    async def recover(self: FlowSource, dead: Collection[Peer], held: Held | None = None) -> Recovery:
        del self, dead, held
        return Recovery()

    FlowSource.recover = recover


def changes_outputs() -> None:
    """Writes every output, and then another one straight into the table."""
    finish = FlowSource.finish

    async def finish_and_spoil(
        self: FlowSource,
        results: Sequence[TaskResult],
        *,
        patience: Limits | None = None,
        waits_for_lock: bool = False,
    ) -> Finish:
        done = await finish(self, results, patience=patience, waits_for_lock=waits_for_lock)
        run_ids = [result.task.run_id for result in results]
        await self._links.finish.run(lambda connection: connection.execute(SPOIL, run_ids))  # pyright: ignore
        return done

    FlowSource.finish = finish_and_spoil


def declares_the_living_dead() -> None:
    """Takes all others for dead at once."""
    recover = FlowSource.recover

    async def declare_and_recover(self: FlowSource, dead: Collection[Peer], held: Held | None = None) -> Recovery:
        await self._links.claim.run(lambda connection: connection.execute(DECLARE, self._worker_id))  # pyright: ignore
        return await recover(self, dead, held)

    FlowSource.recover = declare_and_recover


SABOTAGES: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        acknowledges_before_work,
        ignores_the_attempt,
        charges_losses,
        forgets_results,
        runs_twice,
        never_recovers,
        changes_outputs,
        declares_the_living_dead,
    )
}


if __name__ == "__main__":
    SABOTAGES[os.environ[VARIABLE]]()
    sys.exit(main())
