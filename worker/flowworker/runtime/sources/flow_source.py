"""The source of a pgflow flow: claims in two statements, finishes behind the fence, gives back what others left."""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from flowworker.database import flow_results, flow_tasks
from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection
from flowworker.database.faults import CONFLICTS
from flowworker.database.flow_results import Fence
from flowworker.database.flow_tasks import OwnedTask, ReadMessage, ServedStep
from flowworker.database.headers import losses_of
from flowworker.database.leftovers import treat
from flowworker.database.link import Links
from flowworker.database.records import ClaimedTask, Peer, SourceKind, TaskResult
from flowworker.database.refusals import translated
from flowworker.definition.flow import Flow
from flowworker.definition.step import StepKind
from flowworker.errors import DatabaseUnavailableError, UnknownFlowError, UnknownRunError
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.flow_recovery import recover_flow
from flowworker.runtime.sources.flow_writer import FlowWriter
from flowworker.runtime.sources.writing import write_all

logger = logging.getLogger(__name__)

GRACE = 10
"""Seconds between a task's timeout and its message becoming visible again."""

EXTENSION_MARGIN = 10.0
"""Seconds before the end of its visibility from which on a message that is still held is prolonged."""

DEFAULT_TIMEOUT = 60
MEETINGS = 5
"""Claims tried at once when tasks keep arriving in the very moment of the claim."""

FOREIGN_MESSAGE = (
    "queue %r holds message %d, which belongs to no task of pgflow; it is left alone and read ever more rarely. "
    "Archive it with: SELECT pgmq.archive('%s', %d)"
)


class FlowSource:
    """Tasks of one pgflow flow for one worker."""

    def __init__(self, *, flow: Flow, worker_id: UUID, links: Links) -> None:
        """Open nothing yet.

        Args:
            flow: the definition, whose steps are the ones claimed.
            worker_id: must be registered (`flowworker.database.heartbeat`) before the first claim.
            links: the connections of the process.
        """
        self._flow = flow
        self._worker_id = worker_id
        self._links = links
        self._features: Capabilities | None = None
        self._timeouts: dict[str, int] = {}
        # What was handed out and not yet finished, and whether a claim's reply may have been lost: only then is it
        # worth asking the database what it believes this worker holds.
        self._handed: dict[int, datetime] = {}
        self._in_doubt = True

    @property
    def kind(self) -> SourceKind:
        return SourceKind.FLOW

    @property
    def slug(self) -> str:
        return self._flow.slug

    @property
    def queue_name(self) -> str:
        return self._flow.slug

    async def prepare(self) -> None:
        """Look at the catalogue, and read the steps' effective timeouts.

        Raises:
            UnknownFlowError: the flow is not in the database.
        """
        await self._links.claim.run(self._prepare)

    async def _prepare(self, connection: Connection) -> None:
        self._features = await detect(connection)
        with translated(f"serve flow {self.slug!r}"):
            timeouts = await flow_tasks.effective_timeouts(connection, self.slug)
        if not timeouts:
            raise UnknownFlowError(
                f"the database has no flow {self.slug!r}; create it with `flowworker flows compile MODULE:OBJECT`"
            )
        self._timeouts = {step: timeout for step, timeout in timeouts.items() if step is not None}

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Take at most `limit` tasks. See `Source.claim`."""
        return await self._links.claim.run(lambda connection: self._claim(connection, limit, frozenset(held)))

    async def _claim(self, connection: Connection, limit: int, held: frozenset[int]) -> Claim:
        in_doubt = self._in_doubt or not self._handed.keys() <= held
        self._in_doubt = True
        messages = await self._read(connection, limit)
        started = [message for message in messages if message.step_slug is not None]
        owned: dict[int, OwnedTask] = {}
        if started or in_doubt:
            owned = await self._owned(connection)
        tasks = [self._task(message, owned[message.msg_id]) for message in started if message.msg_id in owned]
        await self._correct_visibility(connection, tasks)
        claimed = {task.msg_id for task in tasks}
        returned = await self._give_back(connection, [o for id_, o in owned.items() if id_ not in held | claimed])
        await self._treat_leftovers(connection, [message for message in messages if message.step_slug is None])
        kept = {msg_id: started_at for msg_id, started_at in self._handed.items() if msg_id in held}
        self._handed = kept | {msg_id: owned[msg_id].started_at for msg_id in claimed}
        self._in_doubt = False
        return Claim(tasks=tasks, read=len(messages), unstartable=len(messages) - len(started), returned=returned)

    async def _read(self, connection: Connection, limit: int) -> list[ReadMessage]:
        """The claim's first statement, repeated at once where it only met another transaction."""
        for _ in range(MEETINGS):
            try:
                return await self._read_once(connection, limit)
            except (asyncpg.CheckViolationError, *CONFLICTS) as error:
                if isinstance(error, asyncpg.CheckViolationError) and not flow_tasks.is_early_start(error):
                    raise
            except asyncpg.ForeignKeyViolationError as error:
                raise DatabaseUnavailableError(
                    f"worker {self._worker_id} is not registered now; its next heartbeat does it"
                ) from error
        return []

    async def _read_once(self, connection: Connection, limit: int) -> list[ReadMessage]:
        return await flow_tasks.read_and_start(
            connection,
            await self._known_features(connection),
            flow_slug=self.slug,
            worker_id=self._worker_id,
            limit=limit,
            steps=[
                ServedStep(slug=slug, is_map=step.kind is StepKind.MAP, visibility=self._timeout(slug) + GRACE)
                for slug, step in self._flow.steps.items()
            ],
        )

    async def _known_features(self, connection: Connection) -> Capabilities:
        if self._features is None:
            self._features = await detect(connection)
        return self._features

    async def _owned(self, connection: Connection) -> dict[int, OwnedTask]:
        found = await flow_tasks.owned_tasks(connection, flow_slug=self.slug, worker_id=self._worker_id)
        return {task.msg_id: task for task in found}

    def _timeout(self, step_slug: str) -> int:
        return self._timeouts.get(step_slug, DEFAULT_TIMEOUT)

    def _task(self, message: ReadMessage, owned: OwnedTask) -> ClaimedTask:
        return ClaimedTask(
            msg_id=message.msg_id,
            run_id=owned.run_id,
            step_slug=owned.step_slug,
            task_index=owned.task_index,
            attempt=owned.attempt,
            max_attempts=owned.max_attempts,
            timeout=owned.timeout,
            losses=losses_of(message.headers),
            read_count=message.read_count,
            enqueued_at=message.enqueued_at,
            visible_at=message.visible_at + timedelta(seconds=owned.timeout - self._timeout(owned.step_slug)),
            started_at=owned.started_at,
            input=message.input,
            flow_input=message.flow_input,
            headers=message.headers,
        )

    async def _correct_visibility(self, connection: Connection, tasks: Sequence[ClaimedTask]) -> None:
        """Timeouts are tuned by UPDATE while we run: move what was claimed under an outdated one, and learn."""
        changed = [task for task in tasks if task.timeout != self._timeout(task.step_slug)]
        if changed:
            known = {task.msg_id: task.visible_at - self._drift(task) for task in changed}
            delays = {task.msg_id: (known[task.msg_id], task.timeout + GRACE) for task in changed}
            await flow_tasks.delay(connection, self.queue_name, delays)
            self._timeouts.update({task.step_slug: int(task.timeout) for task in changed})

    def _drift(self, task: ClaimedTask) -> timedelta:
        return timedelta(seconds=task.timeout - self._timeout(task.step_slug))

    async def _give_back(self, connection: Connection, tasks: Sequence[OwnedTask]) -> int:
        """Release tasks of ours that nobody here knows of: the reply of their claim was lost."""
        if not tasks:
            return 0
        fences = [
            Fence(
                worker_id=self._worker_id,
                run_id=task.run_id,
                step_slug=task.step_slug,
                task_index=task.task_index,
                attempt=task.attempt,
                started_at=task.started_at,
            )
            for task in tasks
        ]
        return len(await flow_results.release(connection, self.queue_name, fences, [0] * len(fences)))

    async def _treat_leftovers(self, connection: Connection, messages: Sequence[ReadMessage]) -> None:
        if not messages:
            return
        found = await flow_tasks.leftovers(connection, self.slug, messages)
        treatments = {leftover.msg_id: treat(leftover, grace=GRACE) for leftover in found}
        archived = [msg_id for msg_id, treatment in treatments.items() if treatment.archive]
        if archived:
            await flow_tasks.archive(connection, self.queue_name, archived)
        visible_at = {message.msg_id: message.visible_at for message in messages}
        delays = {id_: (visible_at[id_], t.delay) for id_, t in treatments.items() if t.delay is not None}
        if delays:
            await flow_tasks.delay(connection, self.queue_name, delays)
        for msg_id in (id_ for id_, treatment in treatments.items() if treatment.warn):
            logger.warning(FOREIGN_MESSAGE, self.queue_name, msg_id, self.queue_name, msg_id)

    async def finish(self, results: Sequence[TaskResult]) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        finish = await self._links.finish.run(lambda connection: self._finish(connection, results))
        for result in results:
            if self._handed.get(result.task.msg_id) == result.task.started_at:
                del self._handed[result.task.msg_id]
        return finish

    async def _finish(self, connection: Connection, results: Sequence[TaskResult]) -> Finish:
        writer = FlowWriter(connection=connection, queue_name=self.queue_name, worker_id=self._worker_id)
        receipts = await write_all(results, writer.write)
        return Finish(receipts=receipts, ended_runs=await writer.ended_runs())

    async def extend(self, tasks: Sequence[ClaimedTask]) -> Collection[int]:
        """Prolong the visibility of tasks that run on. See `Source.extend`."""
        if not tasks:
            return ()
        return await self._links.pulse.run(
            lambda connection: flow_tasks.extend(
                connection, self.queue_name, self._worker_id, tasks, margin=EXTENSION_MARGIN
            )
        )

    async def next_due(self) -> float | None:
        """Seconds until the earliest invisible message becomes visible."""
        return await self._links.claim.run(lambda connection: flow_tasks.next_due(connection, self.queue_name))

    async def flow_input(self, run_id: UUID) -> bytes:
        """The run's input as JSON.

        Raises:
            UnknownRunError: there is no such run.
        """
        found = await self._links.claim.run(lambda connection: flow_tasks.flow_input(connection, run_id))
        if found is None:
            raise UnknownRunError(f"the database has no run {run_id}")
        return found

    async def recover(self, dead: Collection[Peer]) -> Recovery:
        """Give back what the dead and nobody hold. See `Source.recover`."""
        return await self._links.claim.run(
            lambda connection: recover_flow(connection, self.slug, own_id=self._worker_id, dead=dead)
        )
