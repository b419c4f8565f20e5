"""Metrics that are read when someone asks: gauges of a process's workers, counters of its event stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from flowworker.database.records import SourceKind
from flowworker.telemetry import metric_list as listed

Work: TypeAlias = tuple[str, str]

SPECS = (
    listed.IN_FLIGHT,
    listed.SLOTS,
    listed.WORKERS,
    listed.HEARTBEAT_AGE,
    listed.UNWRITTEN_AGE,
    listed.CLAIM_AGE,
    listed.DOUBTS,
)


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
    unwritten_age: float | None = None
    """Seconds for which the oldest result waits to be written; None when none does."""
    claim_age: float | None = None
    """Seconds since the last claim that the database answered; None before the first."""
    doubts: int = 0
    """Claims and writes whose outcome is not known."""


class WorkersCollector(Collector):
    """Reads the workers anew for every scrape, so a worker that is gone leaves nothing behind."""

    def __init__(self, workers: Callable[[], Sequence[WorkerGauges]]) -> None:
        """Ask the callable given; it is called from the probe's thread and must not wait for the event loop."""
        self._workers = workers

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from map(_family, SPECS)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        by_work: dict[Work, list[WorkerGauges]] = {}
        for worker in self._workers():
            by_work.setdefault((worker.kind.value, worker.slug), []).append(worker)
        families = tuple(self.describe())
        in_flight, slots, workers, beat_age, unwritten_age, claim_age, doubts = families
        for work, group in by_work.items():
            in_flight.add_metric(work, sum(worker.in_flight for worker in group))
            slots.add_metric(work, sum(worker.slots for worker in group))
            states = [worker.state for worker in group]
            for state in sorted(set(states)):
                workers.add_metric((*work, state), states.count(state))
            _add_oldest(beat_age, work, [worker.heartbeat_age for worker in group])
            unwritten_age.add_metric(work, max(worker.unwritten_age or 0.0 for worker in group))
            _add_oldest(claim_age, work, [worker.claim_age for worker in group])
            doubts.add_metric(work, sum(worker.doubts for worker in group))
        yield from families


class DroppedEventsCollector(Collector):
    """Reads what the stream has dropped for slow subscribers; an event about dropped events could be dropped itself."""

    def __init__(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        """Ask the callable given for events by subscriber; it is called from the probe's thread."""
        self._dropped = dropped

    def describe(self) -> Iterator[CounterMetricFamily]:
        spec = listed.EVENTS_DROPPED
        yield CounterMetricFamily(spec.name, spec.help, labels=spec.labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        for family in self.describe():
            for subscriber, count in self._dropped().items():
                family.add_metric((subscriber,), count)
            yield family


def _add_oldest(family: GaugeMetricFamily, work: Work, ages: Sequence[float | None]) -> None:
    known = [age for age in ages if age is not None]
    if known:
        family.add_metric(work, max(known))


def _family(spec: listed.GaugeSpec) -> GaugeMetricFamily:
    return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
