"""What a metric is before there is a registry: its name, meaning, labels and buckets."""

from dataclasses import dataclass
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What all kinds of metrics have."""

    kind: ClassVar[str]
    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSpec(MetricSpec):
    """A number that only grows while the process lives."""

    kind: ClassVar[str] = "counter"

    def on(self, registry: CollectorRegistry) -> Counter:
        """Create the metric."""
        return Counter(self.name, self.help, self.labels, registry=registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSpec(MetricSpec):
    """A number that goes up and down."""

    kind: ClassVar[str] = "gauge"

    def on(self, registry: CollectorRegistry) -> Gauge:
        """Create the metric."""
        return Gauge(self.name, self.help, self.labels, registry=registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSpec(MetricSpec):
    """A distribution."""

    kind: ClassVar[str] = "histogram"
    buckets: tuple[float, ...]
    why: str
    """Why these buckets."""

    def on(self, registry: CollectorRegistry) -> Histogram:
        """Create the metric."""
        return Histogram(self.name, self.help, self.labels, registry=registry, buckets=self.buckets)
