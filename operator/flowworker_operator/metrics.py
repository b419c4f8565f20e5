"""Keeps the operator's metrics: those of a FlowWorker are set after each of its rounds and go with it."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from flowworker_operator import metric_list as listed
from flowworker_operator.api.conditions import ConditionType
from flowworker_operator.cluster.errors import ClusterError
from flowworker_operator.cluster.resources import Resource
from flowworker_operator.database import Key
from flowworker_operator.domain.snapshot import Demand, Snapshot

READS = frozenset({"get", "list"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The last decision, to recognise a new one."""

    desired: int
    reason: str


class Metrics:
    """All metrics of one operator process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register every metric.

        Raises:
            ValueError: the registry holds them already.
        """
        self.rounds = listed.ROUND_DURATION.on(registry)
        self._writes = listed.WRITES.on(registry)
        self._errors = listed.REFUSALS.on(registry)
        self.missed = listed.MISSED.on(registry)
        self.unreadable = listed.UNREADABLE.on(registry)
        self._decisions = listed.DECISIONS.on(registry)
        self._desired = listed.DESIRED.on(registry)
        self._probe_age = listed.PROBE_AGE.on(registry)
        self._demand = {
            "depth": listed.DEPTH.on(registry),
            "startable": listed.STARTABLE.on(registry),
            "in_flight": listed.IN_FLIGHT.on(registry),
            "stalled": listed.STALLED.on(registry),
        }
        self._oldest = listed.OLDEST.on(registry)
        self._limited = listed.LIMITED.on(registry)
        self._replicas = listed.REPLICAS.on(registry)
        self._ready_replicas = listed.READY_REPLICAS.on(registry)
        self._ready = listed.READY.on(registry)
        self._waiting = listed.WAITING_KEYS.on(registry)
        self._stuck = listed.STUCK.on(registry)
        self._leader = listed.LEADER.on(registry)
        self._held_back = listed.HELD_BACK.on(registry)
        self._last: dict[Key, Decided] = {}
        self._counted: dict[Key, set[tuple[Counter, str]]] = {}
        """Counters of each FlowWorker, with the label that they have besides its name."""
        ProcessCollector(registry=registry)
        listed.BUILD_INFO.on(registry).labels(version("flowworker")).set(1)

    @contextmanager
    def request(self, verb: str, resource: Resource) -> Generator[None]:
        """Count a request to the API server."""
        if verb not in READS:
            self._writes.labels(verb, resource.plural).inc()
        try:
            yield
        except ClusterError as error:
            self._errors.labels(verb, resource.plural, type(error).__name__).inc()
            raise

    def watch(self, *, waiting: Callable[[], float], stuck: Callable[[], float], leader: Callable[[], bool]) -> None:
        """Read these gauges at every scrape."""
        self._waiting.set_function(waiting)
        self._stuck.set_function(stuck)
        self._leader.set_function(lambda: float(leader()))

    def observe(self, key: Key, snapshot: Snapshot, true_conditions: Collection[str]) -> None:
        """Show what was seen of a FlowWorker, and which of its conditions are True."""
        pods = [pod for revision in snapshot.revisions for pod in revision.live]
        self._set(self._replicas, key, len(pods))
        self._set(self._ready_replicas, key, sum(pod.ready for pod in pods))
        self._set(self._ready, key, ConditionType.READY in true_conditions)
        self._set(self._limited, key, ConditionType.SCALING_LIMITED in true_conditions)
        database = snapshot.database
        if database.demand is not None and database.age is not None:
            self._set(self._probe_age, key, database.age)
            self._set(self._oldest, key, _waited(database.demand, snapshot.at.wall))
            for name, gauge in self._demand.items():
                self._set(gauge, key, getattr(database.demand, name))

    def decided(self, key: Key, decision: Decided) -> None:
        """Count a decision, if it is a new one."""
        self._set(self._desired, key, decision.desired)
        if self._last.get(key) != decision:
            self._last[key] = decision
            self._count(self._decisions, key, decision.reason)

    def held_back(self, key: Key, write: str) -> None:
        """Count a round that put off a write of this kind."""
        self._count(self._held_back, key, write)

    def forget(self, key: Key) -> None:
        """Remove every series of a FlowWorker."""
        self._last.pop(key, None)
        seen = (self._probe_age, self._oldest, *self._demand.values(), self._replicas, self._ready_replicas)
        for metric in (*seen, self._ready, self._limited, self._desired):
            metric.remove(key.namespace, key.name)
        for counter, label in self._counted.pop(key, set()):
            counter.remove(key.namespace, key.name, label)

    def _count(self, counter: Counter, key: Key, label: str) -> None:
        self._counted.setdefault(key, set()).add((counter, label))
        counter.labels(key.namespace, key.name, label).inc()

    @staticmethod
    def _set(gauge: Gauge, key: Key, value: float) -> None:
        gauge.labels(key.namespace, key.name).set(value)


def _waited(demand: Demand, now: datetime) -> float:
    oldest = demand.oldest_startable_at
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
