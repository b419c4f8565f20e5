"""A small cluster and database, driven by plans alone: what Kubernetes and the workers do, without either.

The ReplicaSet is as unkind as the real one: it removes pods that are not ready before any others, then those with the
lowest deletion cost, and it knows nothing of what they are doing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.api.status import FlowWorkerStatus
from flowworker_operator.domain import plan as changes
from flowworker_operator.domain.memory import Memory
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.scaling import fresh
from flowworker_operator.domain.snapshot import (
    BudgetState,
    Claim,
    DatabaseState,
    Demand,
    DrainRequest,
    Moment,
    PodState,
    Report,
    RevisionState,
    Snapshot,
    WorkerState,
)
from flowworker_operator.render.rendering import Owner, render

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
START_SECONDS = 3.0
LONGEST_TIMEOUT = 60
"""Seconds, unless a test says otherwise."""
OWNER = Owner(namespace="shop", name="report", uid="1")
CLAIM = Claim(namespace="shop", name="report", uid="1", created_at=EPOCH, kind="flow", slug="report")


@dataclass(kw_only=True)
class Pod:
    name: str
    created: float
    broken: bool
    marked: bool = False
    ending: bool = False
    tasks: list[float] = field(default_factory=list[float])

    def ready(self, now: float) -> bool:
        return not self.broken and now >= self.created + START_SECONDS


@dataclass(kw_only=True)
class Deployment:
    name: str
    revision: str
    created: float
    broken: bool
    replicas: int
    grace: int
    proven: bool = False
    version: int = 0
    pods: list[Pod] = field(default_factory=list[Pod])

    def live(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.ending]


@dataclass(kw_only=True)
class Reading:
    """What the operator last read from the database."""

    tick: float
    demand: Demand
    longest_timeout: int | None
    reports: dict[str, Report]
    drains: dict[str, DrainRequest]


class SmallCluster:
    def __init__(self, spec: FlowWorkerSpec) -> None:
        self.spec = spec
        self.generation = 1
        self.now = 100.0
        self.deployments: dict[str, Deployment] = {}
        self.drains: dict[str, tuple[float, float]] = {}
        self.backlog: list[float] = []
        self.longest_timeout: int | None = LONGEST_TIMEOUT
        self.database_up = True
        self.quota: int | None = None
        self.lag = 0
        """Turns for which the ReplicaSets do nothing."""
        self.budget = False
        self.broken_images: set[str] = set()
        self.status = FlowWorkerStatus()
        self.memory: Memory | None = None
        self.status_written_at: float | None = None
        self.reading: Reading | None = None
        self.interrupted = 0
        self.completed = 0
        self._serial = 0

    # What the operator sees

    def snapshot(self) -> Snapshot:
        self._read()
        return Snapshot(
            at=Moment(wall=self._wall(self.now), tick=self.now),
            claim=CLAIM,
            generation=self.generation,
            spec=self.spec,
            replicas_set=False,
            status=self.status,
            status_written_at=self.status_written_at,
            database=self._database(),
            target=self.target,
            revisions=tuple(self._revision(item) for item in self.deployments.values()),
            budget=BudgetState(exists=self.budget),
            memory=self.memory,
        )

    @property
    def target(self) -> str:
        return render(OWNER, self.spec).revision

    def desired(self) -> int:
        assert self.status.scaling is not None
        return self.status.scaling.desired

    def pods(self) -> list[Pod]:
        return [pod for item in self.deployments.values() for pod in item.pods]

    # What the operator does

    def reconcile(self, *, applied: int | None = None) -> Plan:
        """Plan and apply; only the first `applied` changes get through before the operator dies."""
        plan = make_plan(self.snapshot())
        conflict = False
        for change in list(_changes(plan))[:applied]:
            conflict = self._is_conflict(change)
            if conflict:
                break
            self._apply(change)
        if applied is None:
            self.memory = plan.memory
            self._write(None if conflict else plan.status)
        else:
            self.restart_operator()
        return plan

    def restart_operator(self) -> None:
        self.memory = None
        self.status_written_at = None
        self.reading = None

    # What the world does

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.lag = max(0, self.lag - 1)
        for item in self.deployments.values():
            if not self.lag:
                self._replica_set(item)
            for pod in item.pods:
                self._work(pod, seconds)
            item.pods = [pod for pod in item.pods if not pod.ending]

    def kill(self, index: int) -> None:
        """A node dies: its pod is gone at once, and its tasks are given back."""
        owners = [(item, pod) for item in self.deployments.values() for pod in item.pods]
        if owners:
            item, pod = owners[index % len(owners)]
            self.backlog += pod.tasks
            item.pods.remove(pod)

    def change(self, spec: FlowWorkerSpec) -> None:
        self.spec = spec
        self.generation += 1

    def _read(self) -> None:
        if not self.database_up:
            return
        pods = [pod for pod in self.pods() if pod.ready(self.now)]
        self.reading = Reading(
            tick=self.now,
            demand=Demand(startable=len(self.backlog), in_flight=sum(len(pod.tasks) for pod in pods)),
            longest_timeout=self.longest_timeout,
            reports={pod.name: self._report(pod) for pod in pods},
            drains={
                uid: DrainRequest(age=self.now - since)
                for uid, (since, until) in self.drains.items()
                if until > self.now
            },
        )

    def _database(self) -> DatabaseState:
        if self.reading is None:
            return DatabaseState()
        return DatabaseState(
            demand=self.reading.demand,
            age=self.now - self.reading.tick,
            longest_timeout=self.reading.longest_timeout,
        )

    def _in_force(self) -> Iterator[tuple[str, DrainRequest]]:
        for uid, (since, until) in self.drains.items():
            if until > self.now:
                yield uid, DrainRequest(age=self.now - since)

    def _report(self, pod: Pod) -> Report:
        state = WorkerState.RUNNING
        if self._leased(pod):
            state = WorkerState.DRAINING if pod.tasks else WorkerState.DRAINED
        return Report(state=state, kind="flow", slug=self.spec.slug, in_flight=len(pod.tasks))

    def _revision(self, item: Deployment) -> RevisionState:
        return RevisionState(
            name=item.name,
            revision=item.revision,
            resource_version=str(item.version),
            created_at=self._wall(item.created),
            replicas=item.replicas,
            proven=item.proven,
            grace=item.grace,
            pods=tuple(self._pod(pod) for pod in item.pods),
        )

    def _pod(self, pod: Pod) -> PodState:
        state = PodState(
            name=pod.name,
            uid=pod.name,
            created_at=self._wall(pod.created),
            ready=pod.ready(self.now),
            ending=pod.ending,
            marked=pod.marked,
        )
        if self.reading is None or fresh(self._database()) is None:
            return state
        return replace(state, report=self.reading.reports.get(pod.name), drain=self.reading.drains.get(pod.name))

    def _apply(self, change: object) -> None:
        match change:
            case changes.Drain() | changes.EndDrain():
                self._lease(change)
            case changes.Mark():
                next(pod for pod in self.pods() if pod.name == change.uid).marked = change.cost is not None
            case changes.Create():
                self._create(change)
            case changes.Prove() | changes.Scale() | changes.Delete():
                self._change(change)
            case changes.Repair():
                self._repair(self.deployments[change.name], change.grace)
            case changes.Budget():
                self.budget = change.action == "apply"
            case changes.SetReplicas():
                self.spec = self.spec.model_copy(update={"replicas": change.replicas})
            case _:
                raise AssertionError(change)

    def _lease(self, change: changes.Drain | changes.EndDrain) -> None:
        if not self.database_up:
            return
        if isinstance(change, changes.EndDrain):
            self.drains.pop(change.uid, None)
            return
        since, until = self.drains.get(change.uid, (self.now, 0.0))
        self.drains[change.uid] = (since if until > self.now else self.now, self.now + change.seconds)

    def _change(self, change: changes.Prove | changes.Scale | changes.Delete) -> None:
        item = self.deployments[change.name]
        match change:
            case changes.Prove():
                item.proven = True
            case changes.Scale():
                item.replicas, item.version = change.replicas, item.version + 1
            case changes.Delete():
                assert not item.pods
                del self.deployments[change.name]

    def _is_conflict(self, change: object) -> bool:
        """A Deployment that the same plan has repaired is another version now."""
        if not isinstance(change, changes.Scale | changes.Delete):
            return False
        return change.resource_version != str(self.deployments[change.name].version)

    def _repair(self, item: Deployment, grace: int) -> None:
        """Changes by others do not happen here, so this gives more time; Kubernetes would replace pods for it."""
        assert grace > item.grace
        assert (item.replicas, item.live()) == (0, [])
        item.grace, item.version = grace, item.version + 1

    def _create(self, change: changes.Create) -> None:
        assert change.name not in self.deployments
        self.deployments[change.name] = Deployment(
            name=change.name,
            revision=change.revision,
            created=self.now,
            broken=self.spec.image in self.broken_images,
            replicas=change.replicas,
            grace=change.grace,
        )

    def _write(self, status: FlowWorkerStatus | None) -> None:
        if status is not None:
            self.status = FlowWorkerStatus.model_validate_json(status.model_dump_json(by_alias=True))
            self.status_written_at = self.now

    def _replica_set(self, item: Deployment) -> None:
        unkind = sorted(item.live(), key=lambda pod: (pod.ready(self.now), not pod.marked, -pod.created))
        for pod in unkind[: max(0, len(unkind) - item.replicas)]:
            pod.ending = True
            if pod.tasks and item.proven:
                self.interrupted += 1
            self.backlog += pod.tasks
        room = (
            item.replicas
            if self.quota is None
            else max(0, self.quota - sum(len(d.live()) for d in self.deployments.values()))
        )
        for _ in range(min(item.replicas - len(item.live()), room)):
            self._serial += 1
            item.pods.append(Pod(name=f"{item.name}-{self._serial}", created=self.now, broken=item.broken))

    def _work(self, pod: Pod, seconds: float) -> None:
        if pod.ending or not pod.ready(self.now):
            return
        left = [task - seconds for task in pod.tasks]
        pod.tasks = [task for task in left if task > 0]
        self.completed += len(left) - len(pod.tasks)
        while self.database_up and not self._leased(pod) and self.backlog and len(pod.tasks) < self._slots():
            pod.tasks.append(self.backlog.pop())

    def _slots(self) -> int:
        return self.spec.worker.max_concurrency

    def _leased(self, pod: Pod) -> bool:
        return self.drains.get(pod.name, (0.0, 0.0))[1] > self.now

    def _wall(self, tick: float) -> datetime:
        return EPOCH + timedelta(seconds=tick)


def _changes(plan: Plan) -> list[object]:
    single = [change for change in (plan.budget, plan.set_replicas) if change is not None]
    several = (plan.drain, plan.end_drain, plan.mark, plan.prove, plan.create, plan.repair, plan.scale, plan.delete)
    return [*(change for group in several for change in group), *single]
