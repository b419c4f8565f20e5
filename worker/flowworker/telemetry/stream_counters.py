"""The event stream's own counters, read when someone asks."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from flowworker.telemetry import metric_list as listed


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
