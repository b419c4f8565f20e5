"""One round for one FlowWorker: gather a snapshot, make a plan, carry it out. Level-triggered: nothing else is known.

A process that does not lead looks at nothing but the cluster, so that one connection per database is enough for any
number of operators. Its first rounds as the leader start without memory, which makes windows longer and never shorter.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from flowworker.database.identifiers import folded
from flowworker_operator.apply import PlanApplier, PlanResult, Target
from flowworker_operator.bounded import take_token
from flowworker_operator.cluster.events import EventRecorder
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS, Object
from flowworker_operator.database import ClientCertificate, Databases, Key, SameDatabase, Subject
from flowworker_operator.database_writes import DatabaseWrites
from flowworker_operator.departures import Departures, lost_workers
from flowworker_operator.domain.events import draining, event_of, shared
from flowworker_operator.domain.health import explained
from flowworker_operator.domain.ownership import Contenders, Place, age
from flowworker_operator.domain.plan import Event, Plan
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.reporting import WRITES, rejected
from flowworker_operator.domain.rivalry import Stance
from flowworker_operator.domain.scaling import urgent
from flowworker_operator.domain.snapshot import Claim, DrainRequest, Fault, Moment, Obstacle, Report, Snapshot
from flowworker_operator.gather import Design, History, Observed, claim_of, design, gather, revision_of_pod, status_of
from flowworker_operator.gather_pods import (
    compiled_revision,
    hangs,
    pod_state,
    timestamp,
)
from flowworker_operator.metrics import Decided, Metrics
from flowworker_operator.pod_events import PodEvents
from flowworker_operator.readable_scopes import ReadableScopes
from flowworker_operator.rivals import Rivals
from flowworker_operator.secrets import Secrets
from flowworker_operator.store import Store

TICK = 5.0
"""Seconds between two rounds of a FlowWorker for which nothing happens."""
SOON = 0.2
"""Seconds to the next round when this one was left half done."""
DOUBT = 1.0
"""Seconds to the next round while it is in doubt whether the worker of a deleted pod lives."""
HANGING = 3.0
"""Seconds after which a pod without containers hangs: most mounts take less."""
PATIENCE = 5.0
"""Seconds that a plan waits for the first reading of a database: the grace period of pods and the owner of a flow,
of which there may be another, are known only with it."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Record:
    """What is remembered of one FlowWorker."""

    claim: Claim
    since: float
    generation: int
    design: Design | Fault
    history: History = field(default_factory=History)
    shared: bool = False
    """A FlowWorker of another namespace seems to run the same, of which there was an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contention:
    """Who else takes from the queue of a FlowWorker."""

    rivals: tuple[Claim, ...]
    unsure: bool
    """More may become known."""


class Reconciler:
    """Runs rounds. Each round is for one key; rounds of different keys may run at the same time."""

    def __init__(
        self,
        *,
        store: Store,
        secrets: Secrets,
        databases: Databases,
        pod_events: PodEvents,
        departures: Departures,
        database_writes: DatabaseWrites,
        applier: PlanApplier,
        recorder: EventRecorder,
        metrics: Metrics,
        readable: ReadableScopes,
        installations: Rivals,
        leads: Callable[[], bool],
        clock: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._databases = databases
        self._pod_events = pod_events
        self._departures = departures
        self._database_writes = database_writes
        self._applier = applier
        self._recorder = recorder
        self._metrics = metrics
        self._readable = readable
        self._installations = installations
        self._leads = leads
        self._clock = clock
        self._wall = wall
        self._records: dict[Key, _Record] = {}
        self._contenders = Contenders()

    async def round(self, key: Key) -> float | None:
        """Do what one FlowWorker needs now; answers in how many seconds to look again, None when it is gone.

        Raises:
            ClusterError: the API server does not answer.
        """
        started = self._clock()
        outcome = "error"
        try:
            outcome, pause = await self._round(key)
        finally:
            self._metrics.rounds.labels(outcome).observe(self._clock() - started)
        return pause

    async def _round(self, key: Key) -> tuple[str, float | None]:
        flowworker = self._store.get(FLOWWORKERS, key)
        if flowworker is None:
            self._stand_by(key)
            self._installations.forget(key)
            return "done", None
        if not self._leads():
            self._stand_by(key)
            return "standby", TICK
        if not self._readable.serves(key.namespace):
            return await self._bar(key, flowworker)
        match await self._installations.settle(flowworker):
            case Stance.STAND_BACK:
                self._stand_by(key)
                return "rival", TICK
            case None:
                return "conflict", SOON
            case _:
                flowworker = self._store.get(FLOWWORKERS, key) or flowworker
        record = self._record(key, flowworker)
        if isinstance(record.design, Fault):
            self._contenders.drop(record.claim)
            return await self._reject(flowworker, record.design)
        fault = await self._connect(key, record, record.design)
        self._contenders.put(record.claim, self._place(key, record.design))
        results = self._database_writes.take_results(key)
        workers = self._workers(key)
        gone, doubtful = self._departures.to_mark(key, workers, results.marked)
        if self._databases.fault(key) is None:
            self._database_writes.mark_gone(key, gone, doubtful)
        events = (
            *draining(results.draining),
            *lost_workers(results.losses, workers),
            *self._departures.restarted(key, workers),
            *self._shared(record, record.design),
        )
        self._announce(record.claim, events)
        if self._must_wait(key, record, fault) or self._store.get(FLOWWORKERS, key) is not flowworker:
            return "waiting", SOON  # in the second case it has changed while we asked others
        return await self._act(Target(flowworker=flowworker, design=record.design), record, fault)

    async def _bar(self, key: Key, flowworker: Object) -> tuple[str, float]:
        """Do nothing where not all can be seen; report which right is missing, as far as that is allowed."""
        self._stand_by(key)
        fault = self._readable.fault(key.namespace)
        if fault is not None and self._readable.sees(FLOWWORKERS, key.namespace):
            await self._reject(flowworker, fault)
        return "barred", TICK

    async def _act(self, target: Target, record: _Record, fault: Fault | None) -> tuple[str, float]:
        snapshot = self._gather(target, record, fault, await self._obstacles(target))
        plan = make_plan(snapshot)
        # Kept whatever becomes of the plan: a window must not lose a decision.
        record.history = replace(record.history, memory=plan.memory)
        outcome = await self._applier.carry_out(target, plan)
        self._remember(record, outcome)
        self._show(target.key, snapshot, plan)
        for write in (*plan.held_back, *outcome.held_back):
            self._metrics.held_back(target.key, write)
        if not outcome.superseded:
            self._announce(snapshot.claim, _events_of(plan, outcome))
        if outcome.conflict or outcome.superseded:
            return "conflict", SOON
        # What we write is in the store already, so that no watch will bring it as a change.
        changed = outcome.done or (outcome.refusal, outcome.contest) != (snapshot.refusal, snapshot.contest)
        return "done", SOON if changed else DOUBT if self._departures.in_doubt(target.key) else TICK

    def _announce(self, claim: Claim, events: Iterable[Event]) -> None:
        for event in events:
            if self._recorder.record(claim, event):
                log = logger.warning if event.type == "Warning" else logger.info
                log(event.message, namespace=claim.namespace, flowworker=claim.name, reason=event.reason)

    async def _obstacles(self, target: Target) -> Mapping[str, Obstacle]:
        """What keeps the newest pod of the revision asked for, where it hangs, from having containers."""
        now = self._wall()
        hanging = [
            (timestamp(pod["metadata"]["creationTimestamp"]), pod)
            for pod in self._store.belonging(PODS, target.key)
            if target.design.target in (revision_of_pod(pod), compiled_revision(pod)) and hangs(pod)
        ]
        if not hanging:
            return {}
        created, pod = max(hanging, key=lambda one: one[0])
        seconds = (now - created).total_seconds()
        found = await self._pod_events.obstacle(target.key, pod, seconds) if seconds >= HANGING else None
        return {} if found is None else {pod["metadata"]["uid"]: explained(found, target.design.volumes)}

    def _gather(
        self, target: Target, record: _Record, fault: Fault | None, obstacles: Mapping[str, Obstacle]
    ) -> Snapshot:
        key = target.key
        return gather(
            Observed(
                at=self._now(),
                flowworker=target.flowworker,
                design=target.design,
                deployments=self._store.belonging(DEPLOYMENTS, key),
                pods=self._store.belonging(PODS, key),
                budgets=self._store.belonging(BUDGETS, key) if self._readable.sees(BUDGETS, key.namespace) else None,
                reading=self._databases.reading(key),
                fault=fault or self._databases.fault(key),
                rivals=self._contention(record).rivals,
                history=record.history,
                rival=self._installations.seen(target.flowworker),
                obstacles=obstacles,
            )
        )

    async def _connect(self, key: Key, record: _Record, asked: Design) -> Fault | None:
        """Let the database of a FlowWorker be read; the fault is that of its Secret."""
        failed = self._databases.fault(key)
        database = asked.spec.database
        # A transaction pooler, for which the direct one is given, takes no settings of a session.
        reference = database.direct_secret_ref or database.secret_ref
        found = await self._secrets.dsn(key, reference, doubted=failed is not None)
        authority: str | Fault | None = None
        if database.ca_ref is not None:
            authority = await self._secrets.certificates(key, database.ca_ref, doubted=failed is not None)
        client: ClientCertificate | Fault | None = None
        if database.client_certificate_ref is not None:
            client = await self._secrets.client_certificate(
                key, database.client_certificate_ref, doubted=failed is not None
            )
        for one in (found, authority, client):
            if isinstance(one, Fault):
                return one
        assert isinstance(found, str)
        assert not isinstance(authority, Fault)
        assert not isinstance(client, Fault)
        self._databases.watch(self._subject(key, asked), found, authority, client)
        return None

    def _subject(self, key: Key, asked: Design) -> Subject:
        spec, reading = asked.spec, self._databases.reading(key)
        reports: Mapping[str, Report] = {} if reading is None else reading.reports
        drains: Mapping[str, DrainRequest] = {} if reading is None else reading.drains
        pods = (pod_state(pod, reports, drains) for pod in self._workers(key))
        return Subject(
            key=key,
            kind="flow" if spec.kind == "flow" else "queue",
            slug=spec.slug,
            cap=spec.scaling.max_replicas * spec.tasks_per_replica + 1,
            eager=urgent(pods),
        )

    def _workers(self, key: Key) -> Sequence[Object]:
        """Pods with workers in them."""
        return [pod for pod in self._store.belonging(PODS, key) if compiled_revision(pod) is None]

    def _must_wait(self, key: Key, record: _Record, fault: Fault | None) -> bool:
        known = fault or self._databases.fault(key) or self._databases.reading(key)
        unsure = known is None or self._contention(record).unsure
        return unsure and self._clock() - record.since < PATIENCE

    def _contention(self, record: _Record) -> _Contention:
        """The oldest FlowWorker of this namespace that takes from the same queue of the same database."""
        mine, oldest, unsure = record.claim, None, self._contenders.may_be_older(record.claim)
        for theirs in self._contenders.older(mine):
            if oldest is not None and age(oldest) <= age(theirs):
                break
            match self._compared(theirs, mine):
                case SameDatabase.SAME:
                    oldest = theirs
                case SameDatabase.UNKNOWN:
                    unsure = True
                case SameDatabase.DIFFERENT:
                    pass
        return _Contention(rivals=() if oldest is None else (oldest,), unsure=unsure)

    def _compared(self, theirs: Claim, mine: Claim) -> SameDatabase:
        other, key = (Key(namespace=one.namespace, name=one.name) for one in (theirs, mine))
        live = self._store.get(FLOWWORKERS, other)
        if live is None or live["metadata"]["uid"] != theirs.uid:
            return SameDatabase.DIFFERENT
        return self._databases.same_database(other, key)

    def _place(self, key: Key, asked: Design) -> Place:
        reading = self._databases.reading(key)
        return Place(
            queue=folded(asked.spec.slug),
            connection=self._databases.connection(key),
            database=None if reading is None else reading.database,
        )

    def _shared(self, record: _Record, asked: Design) -> Sequence[Event]:
        """The event for when a FlowWorker of another namespace begins to seem to take from the same queue.

        Its database may only say so, and to give way to another tenant's word would be to be stopped by it.
        """
        before, record.shared = record.shared, self._contenders.elsewhere(record.claim)
        return (shared(asked.spec.kind),) if record.shared and not before else ()

    def _record(self, key: Key, flowworker: Object) -> _Record:
        metadata = flowworker["metadata"]
        record = self._records.get(key)
        if record is not None and record.claim.uid != metadata["uid"]:
            self._forget(key, record)
            record = None
        if record is None:
            asked = design(flowworker)
            record = _Record(
                claim=claim_of(flowworker), since=self._clock(), generation=metadata["generation"], design=asked
            )
            self._records[key] = record
        elif record.generation != metadata["generation"]:
            record.generation, record.design = metadata["generation"], design(flowworker)
        return record

    async def _reject(self, flowworker: Object, fault: Fault) -> tuple[str, float]:
        """Report in the status why a FlowWorker is not served: its spec or our rights; nothing else is touched."""
        before, generation = status_of(flowworker), flowworker["metadata"]["generation"]
        status = rejected(before, fault, generation=generation, at=self._wall())
        if status != before and not await self._applier.write_status(flowworker, status):
            return "conflict", SOON
        return "done", TICK

    def _remember(self, record: _Record, outcome: PlanResult) -> None:
        finished = not outcome.conflict and not outcome.superseded
        record.history = replace(
            record.history,
            contest=outcome.contest,
            refusal=outcome.refusal if finished or outcome.refusal else record.history.refusal,
        )
        if outcome.status_written:
            now, before = self._clock(), record.history.status_writes
            left = take_token(before, WRITES, now) or before
            record.history = replace(record.history, status_written_at=now, status_writes=left)

    def _show(self, key: Key, snapshot: Snapshot, plan: Plan) -> None:
        status = plan.status or snapshot.status
        self._metrics.observe(key, snapshot, {one.type for one in status.conditions if one.status == "True"})
        if status.scaling is not None:
            self._metrics.decided(key, Decided(desired=status.scaling.desired, reason=status.scaling.reason))

    def _stand_by(self, key: Key) -> None:
        """It is gone, or another operator acts: keep no connection, and nothing that would be old at our turn."""
        self._departures.forget(key)
        record = self._records.pop(key, None)
        if record is not None:
            self._forget(key, record)
            self._database_writes.forget(key)
            self._databases.forget(key)
            self._metrics.forget(key)

    def _forget(self, key: Key, record: _Record) -> None:
        """What is known of one FlowWorker by its uid."""
        self._contenders.drop(record.claim)
        self._applier.forget(key)
        self._pod_events.forget(key)

    def _now(self) -> Moment:
        return Moment(wall=self._wall(), tick=self._clock())


def _events_of(plan: Plan, outcome: PlanResult) -> Iterable[Event]:
    yield from plan.events
    for change in outcome.done:
        yield from event_of(change)
    yield from outcome.events
