"""Gauges of a process's workers, read when someone asks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flowworker.database.records import SourceKind
from flowworker.telemetry import metric_list as listed

Work: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGauges:
    """What the gauges show of one worker at the moment of a scrape."""

    kind: SourceKind
    slug: str
    state: str
    in_flight: int
    slots: int
    heartbeat_age: float | None
    """Seconds since the last heartbeat the database took; None before the first."""


class WorkersCollector(Collector):
    """Reads the workers anew for every scrape, so a worker that is gone leaves nothing behind."""

    def __init__(self, workers: Callable[[], Sequence[WorkerGauges]]) -> None:
        """Ask the callable given; it is called from the probe's thread and must not wait for the event loop."""
        self._workers = workers

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from map(_family, (listed.IN_FLIGHT, listed.SLOTS, listed.WORKERS, listed.HEARTBEAT_AGE))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        by_work: dict[Work, list[WorkerGauges]] = {}
        for worker in self._workers():
            by_work.setdefault((worker.kind.value, worker.slug), []).append(worker)
        in_flight, slots, workers, age = self.describe()
        for work, group in by_work.items():
            in_flight.add_metric(work, sum(worker.in_flight for worker in group))
            slots.add_metric(work, sum(worker.slots for worker in group))
            states = [worker.state for worker in group]
            for state in sorted(set(states)):
                workers.add_metric((*work, state), states.count(state))
            ages = [worker.heartbeat_age for worker in group if worker.heartbeat_age is not None]
            if ages:
                age.add_metric(work, max(ages))
        yield from (in_flight, slots, workers, age)


def _family(spec: listed.GaugeSpec) -> GaugeMetricFamily:
    return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
