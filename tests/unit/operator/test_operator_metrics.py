"""The operator's metrics."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.samples import NOW, pod, revision, snapshot

from flowworker_operator.database import Key
from flowworker_operator.domain.snapshot import Demand
from flowworker_operator.metric_list import METRICS
from flowworker_operator.metrics import Decided, Metrics

KEY = Key(namespace="shop", name="report")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def samples(registry: CollectorRegistry) -> Mapping[str, float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def of_resource(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if 'flowworker="report"' in line]


def test_every_metric_of_the_list_exists(registry: CollectorRegistry, metrics: Metrics) -> None:
    text = generate_latest(registry).decode()
    assert [spec.name for spec in METRICS if f"# HELP {spec.name} " not in text] == []
    assert metrics is not None


def test_what_was_seen_is_shown(registry: CollectorRegistry, metrics: Metrics) -> None:
    demand = Demand(startable=7, in_flight=3, depth=9, oldest_startable_at=NOW - timedelta(seconds=90))
    seen = snapshot(revision(pod("a"), pod("b", ready=False)), demand=demand)
    metrics.observe(KEY, seen, {"Ready", "ScalingLimited"})
    metrics.decided(KEY, Decided(desired=4, reason="Backlog"))
    shown = samples(registry)
    assert shown["flowworker_operator_replicas"] == 2
    assert shown["flowworker_operator_ready_replicas"] == 1
    assert shown["flowworker_operator_startable_tasks"] == 7
    assert shown["flowworker_operator_in_flight_tasks"] == 3
    assert shown["flowworker_operator_queue_depth"] == 9
    assert shown["flowworker_operator_desired_replicas"] == 4
    assert shown["flowworker_operator_oldest_startable_age_seconds"] == 90
    assert shown["flowworker_operator_scaling_limited"] == 1
    assert shown["flowworker_operator_ready"] == 1


def test_only_new_decisions_count(registry: CollectorRegistry, metrics: Metrics) -> None:
    for desired, reason in ((4, "Backlog"), (4, "Backlog"), (4, "Window"), (1, "Window")):
        metrics.decided(KEY, Decided(desired=desired, reason=reason))
    counted = {line for line in of_resource(registry) if "decisions_total" in line}
    assert {line.rsplit(" ", 1)[1] for line in counted} == {"1.0", "2.0"}


def test_the_series_of_a_resource_go_with_it(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.observe(KEY, snapshot(revision(pod("a"))), ())
    metrics.decided(KEY, Decided(desired=1, reason="Backlog"))
    assert of_resource(registry)
    metrics.forget(KEY)
    metrics.forget(KEY)
    assert of_resource(registry) == []


def test_gauges_of_the_process_are_read_when_asked_for(registry: CollectorRegistry, metrics: Metrics) -> None:
    waiting = [3]
    metrics.watch(waiting=lambda: waiting[0], stuck=lambda: 1.5, leader=lambda: True)
    waiting[0] = 5
    shown = samples(registry)
    assert shown["flowworker_operator_waiting_rounds"] == 5
    assert shown["flowworker_operator_longest_round_seconds"] == 1.5
    assert shown["flowworker_operator_leader"] == 1


def test_what_is_put_off_is_counted_and_goes_with_its_resource(registry: CollectorRegistry, metrics: Metrics) -> None:
    other = Key(namespace="shop", name="other")
    for key, write in ((KEY, "status"), (KEY, "status"), (KEY, "mark"), (other, "replicas")):
        metrics.held_back(key, write)
    assert [line for line in of_resource(registry) if "held_back_total" in line] == [
        'flowworker_operator_held_back_total{flowworker="report",namespace="shop",write="status"} 2.0',
        'flowworker_operator_held_back_total{flowworker="report",namespace="shop",write="mark"} 1.0',
    ]
    metrics.forget(KEY)
    assert of_resource(registry) == []
    assert 'flowworker="other"' in generate_latest(registry).decode()
