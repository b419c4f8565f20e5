"""One call of a handler, in the three places where it may run: decode, call, encode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flowworker.definition.child import ChildContext
from flowworker.definition.context import TaskContext
from flowworker.definition.handler import Handler
from flowworker.definition.place import HandlerReference
from flowworker.runtime.execution.contexts import make_context
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.execution.frames import Request
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.workload import Runnable
from flowworker.telemetry.json_lines import running


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A handler with the task it is to run."""

    handler: Runnable
    held_task: HeldTask
    clock: Callable[[], float]
    """Monotonic seconds; used where the deadline is not yet set."""
    worker_name: str
    inputs: RunInputs

    @property
    def reference(self) -> HandlerReference:
        """Where a child process finds the handler."""
        return cast("Handler", self.handler).location

    async def on_loop(self) -> bytes:
        """Run a coroutine function."""
        arguments = self.handler.decode(self.held_task.task.input, await self._flow_input())
        return self.handler.encode(await self.handler.call(arguments, self._context_if_wanted()))

    def in_thread(self) -> bytes:
        """Run a plain function; called in its thread."""
        flow_input = self.inputs.loop_result(self._flow_input()) if self._must_load else self.held_task.task.flow_input
        arguments = self.handler.decode(self.held_task.task.input, flow_input)
        return self.handler.encode(self.handler.call(arguments, self._context_if_wanted()))

    async def request(self) -> Request:
        """What a child process needs to run it."""
        return Request(
            reference=self.reference,
            input=self.held_task.task.input,
            flow_input=await self._flow_input(),
            context=ChildContext.of(self._context()),
            ids=running.get(),
        )

    @property
    def _must_load(self) -> bool:
        return self.handler.needs_flow_input and self.held_task.task.flow_input is None

    async def _flow_input(self) -> bytes | None:
        task = self.held_task.task
        if not self._must_load or task.run_id is None:
            return task.flow_input
        return await self.inputs.raw(task.run_id)

    def _context_if_wanted(self) -> TaskContext | None:
        return self._context() if self.handler.wants_context else None

    def _context(self) -> TaskContext:
        deadline = self.held_task.deadline or self.clock() + self.held_task.task.timeout
        return make_context(
            self.held_task, deadline=deadline, worker_name=self.worker_name, load_flow_input=self.inputs.decoded
        )
