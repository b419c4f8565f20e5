"""The source of a pgflow flow: one statement claims, a second reads the attempts that it began; results are fenced."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from flowworker.database import flow_results, flow_tasks, leases
from flowworker.database.capabilities import Capabilities
from flowworker.database.claims import deadline_of
from flowworker.database.connection import Connection
from flowworker.database.faults import CONFLICTS, MISSING_OBJECT, is_unavailable, translated
from flowworker.database.flow_results import Fence
from flowworker.database.flow_tasks import GRACE, FlowClaim, OwnedTask, ReadMessage, ServedStep
from flowworker.database.leftovers import treat
from flowworker.database.link import Limits, Links
from flowworker.database.lost_peers import LostPeers
from flowworker.database.records import ClaimedTask, Peer, SourceKind, TaskResult, Verdict
from flowworker.database.server_clock import ServerClock
from flowworker.definition.flow import Flow
from flowworker.definition.step import StepKind, decisive_steps
from flowworker.errors import DatabaseUnavailableError, UnknownFlowError, UnknownRunError
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.claiming import ClaimLane, beside_claims, with_more_time
from flowworker.runtime.sources.flow_recovery import FlowRecovery
from flowworker.runtime.sources.flow_writer import FlowWriter
from flowworker.runtime.sources.writing import ResultLane, write_all

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 60
MEETINGS = 5
"""Claims tried at once when tasks keep arriving in the very moment of the claim."""

NEVER_ASKED = datetime.min.replace(tzinfo=UTC)
"""The doubt of a worker that has not looked yet: an earlier incarnation may have left something under its id."""

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
        self._decisive = decisive_steps(flow.steps)
        self._worker_id = worker_id
        self._links = links
        self._lane = ClaimLane(links)
        self._clock = ServerClock()
        self._lost_peers = LostPeers()
        self._timeouts: dict[str, int] = {}
        # What was handed out and not yet finished; until when (in the database's time) a claim that was not answered
        # may still take effect. Only then is it worth asking the database what it believes this worker holds.
        self._handed: dict[int, datetime] = {}
        self._doubt: datetime | None = NEVER_ASKED
        # A claim that is under way must not be mistaken for one whose reply was lost.
        self._claiming = asyncio.Lock()

    @property
    def kind(self) -> SourceKind:
        return SourceKind.FLOW

    @property
    def slug(self) -> str:
        return self._flow.slug

    @property
    def queue_name(self) -> str:
        return self._flow.slug

    @property
    def doubts(self) -> int:
        """Claims that were not answered and may still take effect."""
        return int(self._doubt not in {None, NEVER_ASKED})

    async def prepare(self) -> None:
        """Look at the catalogue, and read the steps' effective timeouts.

        Raises:
            UnknownFlowError: the flow is not in the database.
        """
        await self._links.on_claim(self._prepare)

    async def _prepare(self, connection: Connection) -> None:
        features = await self._links.known.renew(connection)
        with translated(f"serve flow {self.slug!r}"):
            timeouts = await flow_tasks.effective_timeouts(connection, self.slug)
        if not timeouts:
            raise UnknownFlowError(
                f"the database has no flow {self.slug!r}; create it with `flowworker flows compile MODULE:OBJECT`"
            )
        self._timeouts = {step: timeout for step, timeout in timeouts.items() if step is not None}
        await leases.prepare_begun(connection, features)

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Take at most `limit` tasks. See `Source.claim`."""
        async with self._claiming:
            if self._lane.is_stuck:
                await with_more_time(self._links, self._park)
            return await self._lane.run(
                limit, lambda connection, asked: self._claim(connection, asked, frozenset(held))
            )

    async def begun(self, claimed_at: datetime) -> None:
        """Record that handlers have begun. See `Source.begun`."""
        await self._links.on_claim(lambda connection: self._begun(connection, claimed_at))

    async def _begun(self, connection: Connection, claimed_at: datetime) -> None:
        await leases.begun(connection, await self._links.known.of(connection), self._worker_id, claimed_at)

    async def _claim(self, connection: Connection, limit: int, held: frozenset[int]) -> Claim:
        before = self._doubt
        features = await self._links.known.of(connection)
        # Whatever happens from here on, the claim may have been committed, and it may run until this moment.
        self._doubt = await deadline_of(connection, self._clock) + timedelta(seconds=self._lane.patience)
        try:
            found = await self._read(connection, features, limit)
        except (asyncpg.PostgresError, DatabaseUnavailableError) as error:
            if not is_unavailable(error):
                self._doubt = before
            raise
        if found is None:
            self._doubt = before
            return Claim()
        return await self._take(connection, found, held, before)

    async def _take(
        self, connection: Connection, found: FlowClaim, held: frozenset[int], before: datetime | None
    ) -> Claim:
        """Find out what the claim has started, and put right what else it has met."""
        claimed_at = found.ticket.claimed_at
        self._doubt = max(claimed_at, before or claimed_at)
        started = [message for message in found.messages if message.step_slug is not None]
        owned: dict[int, OwnedTask] = {}
        in_doubt = before is not None or not self._handed.keys() <= held
        if started or in_doubt:
            owned = await self._owned(connection)
        tasks = [self._task(message, owned[message.msg_id]) for message in started if message.msg_id in owned]
        await self._correct_visibility(connection, tasks)
        claimed = {task.msg_id for task in tasks}
        returned = await self._give_back(connection, [o for id_, o in owned.items() if id_ not in held | claimed])
        await self._treat_leftovers(connection, [message for message in found.messages if message.step_slug is None])
        kept = {msg_id: started_at for msg_id, started_at in self._handed.items() if msg_id in held}
        self._handed = kept | {msg_id: owned[msg_id].started_at for msg_id in claimed}
        self._doubt = None if before is None or before < claimed_at else before
        return Claim(
            tasks=tasks,
            read=len(found.messages),
            unstartable=len(found.messages) - len(started),
            returned=returned,
            claimed_at=claimed_at,
            fenced=found.ticket.fenced,
            doubtful=self._doubt is not None,
        )

    async def _read(self, connection: Connection, features: Capabilities, limit: int) -> FlowClaim | None:
        """The first statement, repeated at once where it only met another transaction; None if it met too many."""
        for _ in range(MEETINGS):
            try:
                return await self._read_once(connection, features, limit)
            except (asyncpg.CheckViolationError, *CONFLICTS) as error:
                if isinstance(error, asyncpg.CheckViolationError) and not flow_tasks.is_early_start(error):
                    raise
            except MISSING_OBJECT:
                # A migration took away what this core had: it read nothing. What is missing still is not there at all.
                renewed = await self._links.known.renew(connection)
                if _how_to_start(renewed) == _how_to_start(features):
                    raise
                features = renewed
            except asyncpg.ForeignKeyViolationError as error:
                raise DatabaseUnavailableError(
                    f"worker {self._worker_id} is not registered now; its next heartbeat does it"
                ) from error
        return None

    async def _read_once(self, connection: Connection, features: Capabilities, limit: int) -> FlowClaim:
        return await flow_tasks.read_and_start(
            connection,
            features,
            flow_slug=self.slug,
            worker_id=self._worker_id,
            limit=limit,
            steps=[
                ServedStep(slug=slug, is_map=step.kind is StepKind.MAP, visibility=self._timeout(slug) + GRACE)
                for slug, step in self._flow.steps.items()
            ],
            clock=self._clock,
        )

    async def _park(self, connection: Connection) -> None:
        await leases.park(connection, self.queue_name, order="q.msg_id", reason=self._lane.unstick())

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
            losses=message.losses,
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
        """Release tasks of ours that this worker does not know: the reply of their claim was lost."""
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
        features = await self._links.known.of(connection)
        found = await flow_tasks.leftovers(connection, features, self.slug, messages)
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

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        lane = ResultLane(links=self._links, make_writer=self._writer, patience=patience, waits_for_lock=waits_for_lock)
        finish = await write_all(results, lane.try_once, patient=lane.patient)
        for receipt in finish.receipts:
            task = receipt.result.task
            if receipt.verdict is not Verdict.UNWRITTEN and self._handed.get(task.msg_id) == task.started_at:
                del self._handed[task.msg_id]
        return finish

    def _writer(self, connection: Connection, skip_locked: bool) -> FlowWriter:
        return FlowWriter(
            connection=connection,
            known=self._links.known,
            queue_name=self.queue_name,
            worker_id=self._worker_id,
            decisive=self._decisive,
            skip_locked=skip_locked,
        )

    async def next_due(self) -> float | None:
        """Seconds until the earliest invisible message becomes visible."""
        return await self._links.on_claim(lambda connection: flow_tasks.next_due(connection, self.queue_name))

    async def flow_input(self, run_id: UUID) -> bytes:
        """The run's input as JSON.

        Raises:
            UnknownRunError: there is no such run.
        """
        found = await self._links.on_claim(lambda connection: flow_tasks.flow_input(connection, run_id))
        if found is None:
            raise UnknownRunError(f"the database has no run {run_id}")
        return found

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        """Give back what the dead and no worker hold; with `held`, tidy up as well. See `Source.recover`."""
        recovery = await beside_claims(self._links, lambda connection: self._give_back_of(connection, dead))
        if held is None:
            return recovery
        returned = await self._return_unheld(held)
        tidied = await with_more_time(self._links, lambda connection: self._tidy(connection, held))
        return replace(
            recovery,
            released=recovery.released + returned,
            settled=tidied.settled,
            archived=tidied.archived,
        )

    async def _give_back_of(self, connection: Connection, dead: Collection[Peer]) -> Recovery:
        return await self._recovery(connection, await self._links.known.of(connection)).give_back(dead)

    async def _tidy(self, connection: Connection, held: Callable[[], Collection[int]]) -> Recovery:
        # Rare enough to notice here what a migration has changed that stops nothing: a column by which it is quicker.
        return await self._recovery(connection, await self._links.known.of_late(connection)).tidy(held())

    def _recovery(self, connection: Connection, features: Capabilities) -> FlowRecovery:
        return FlowRecovery(
            connection=connection, features=features, flow_slug=self.slug, own_id=self._worker_id,
            lost_peers=self._lost_peers,
        )  # fmt: skip

    async def _return_unheld(self, held: Callable[[], Collection[int]]) -> int:
        """No claim may be under way meanwhile: what it brings is ours before it is held here."""
        async with self._claiming:
            return await with_more_time(self._links, lambda connection: self._return_now(connection, held))

    async def _return_now(self, connection: Connection, held: Callable[[], Collection[int]]) -> int:
        before = frozenset(held())  # what is finished while the database looks was held
        owned = await self._owned(connection)
        free = [task for msg_id, task in owned.items() if msg_id not in before.union(held())]
        return await self._give_back(connection, free)

    async def forgive(self, tasks: Sequence[ClaimedTask]) -> None:
        """Forget losses. See `Source.forgive`."""
        fences = [leases.JobFence.of(task) for task in tasks]
        await self._links.on_claim(lambda connection: leases.forgive(connection, self.queue_name, fences))


def _how_to_start(features: Capabilities) -> tuple[int, bool]:
    return features.start_tasks_arity, features.own_map_tasks
