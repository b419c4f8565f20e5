"""Metrics: what each event counts, under which labels, and what a scrape reads."""

import timeit
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from tests.unit.telemetry.samples import (
    ALL_EVENTS,
    NOON,
    QUEUE_WORKER,
    STARTED,
    STOPPED,
    WORKER,
    flow_task,
    job,
    task_failed,
)

from flowworker.database.records import FailureKind, SourceKind
from flowworker.telemetry import events
from flowworker.telemetry.collectors import WorkerGauges
from flowworker.telemetry.events import Event
from flowworker.telemetry.metric_list import METRICS, HistogramSpec
from flowworker.telemetry.metrics import MetricsSubscriber

STEP = {"source": "flow", "slug": "site_report", "step": "fetch"}
WORK = {"source": "flow", "slug": "site_report"}


class Scrape:
    """A registry with a subscriber, and what it shows."""

    def __init__(self, *workers: WorkerGauges) -> None:
        self.registry = CollectorRegistry()
        self.workers = list(workers)
        self.dropped: dict[str, int] = {}
        self.count = MetricsSubscriber(
            self.registry,
            lambda: self.workers,
            dropped=lambda: self.dropped,
            clock=lambda: NOON + timedelta(seconds=7),
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def gauges(**changes: Any) -> WorkerGauges:
    values: dict[str, Any] = {
        "kind": SourceKind.FLOW,
        "slug": "site_report",
        "state": "running",
        "in_flight": 4,
        "slots": 10,
        "heartbeat_age": 1.5,
    }
    return WorkerGauges(**(values | changes))


@pytest.fixture
def scrape() -> Scrape:
    return Scrape()


def test_a_completed_task_is_counted_with_its_duration(scrape: Scrape) -> None:
    scrape.count(STARTED)
    scrape.count(STOPPED)
    assert scrape.value("flowworker_tasks_started_total", **STEP) == 1
    assert scrape.value("flowworker_tasks_completed_total", **STEP) == 1
    assert scrape.value("flowworker_task_duration_seconds_sum", **STEP) == 0.25


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize(("retry_in", "final"), [(0.0, "false"), (4.0, "false"), (None, "true")])
def test_a_failed_attempt_is_counted_by_its_kind_and_whether_it_was_the_last(
    kind: FailureKind, retry_in: float | None, final: str, scrape: Scrape
) -> None:
    scrape.count(task_failed(retry_in=retry_in, kind=kind))
    assert scrape.value("flowworker_tasks_failed_total", **STEP, failure=kind.value, final=final) == 1
    assert scrape.value("flowworker_task_duration_seconds_count", **STEP) == 1


def test_released_and_superseded_tasks_are_neither_completed_nor_failed(scrape: Scrape) -> None:
    scrape.count(events.TaskReleased(worker=WORKER, task=flow_task(), reason="shutdown"))
    scrape.count(events.TaskSuperseded(worker=WORKER, task=flow_task(), duration=1.0))
    assert scrape.value("flowworker_tasks_released_total", **STEP) == 1
    assert scrape.value("flowworker_tasks_superseded_total", **STEP) == 1
    assert scrape.value("flowworker_tasks_completed_total", **STEP) == 0
    assert scrape.value("flowworker_results_refused_total", **STEP) == 0
    assert b"flowworker_tasks_failed_total{" not in generate_latest(scrape.registry)


def test_an_attempt_of_which_the_database_took_no_outcome_is_counted(scrape: Scrape) -> None:
    scrape.count(events.TaskReleased(worker=WORKER, task=flow_task(), reason="an audit trigger", refused=True))
    assert scrape.value("flowworker_results_refused_total", **STEP) == 1
    assert scrape.value("flowworker_tasks_released_total", **STEP) == 1


def test_the_wait_of_a_task_is_measured_by_the_database_s_clock(scrape: Scrape) -> None:
    scrape.count(STARTED)
    assert scrape.value("flowworker_task_wait_seconds_sum", **STEP) == 2.0


def test_the_wait_of_a_job_is_measured_against_the_worker_s_clock(scrape: Scrape) -> None:
    scrape.count(events.TaskStarted(worker=QUEUE_WORKER, task=job()))
    labels = {"source": "queue", "slug": "mail", "step": "mail"}
    assert scrape.value("flowworker_task_wait_seconds_sum", **labels) == 7.0


def test_a_clock_that_is_a_day_behind_makes_no_negative_wait() -> None:
    registry = CollectorRegistry()
    subscriber = MetricsSubscriber(registry, clock=lambda: datetime(2026, 2, 28, tzinfo=UTC))
    subscriber(events.TaskStarted(worker=QUEUE_WORKER, task=job()))
    labels = {"source": "queue", "slug": "mail", "step": "mail"}
    assert registry.get_sample_value("flowworker_task_wait_seconds_sum", labels) == 0.0


@pytest.mark.parametrize("changes", [{"attempt": 2}, {"losses": 1}, {"read_count": 2}])
def test_only_a_first_start_has_a_wait(changes: dict[str, int], scrape: Scrape) -> None:
    scrape.count(events.TaskStarted(worker=WORKER, task=flow_task(**changes)))
    assert scrape.value("flowworker_task_wait_seconds_count", **STEP) == 0
    assert scrape.value("flowworker_tasks_started_total", **STEP) == 1


def test_a_poll_shows_its_duration_and_what_it_brought(scrape: Scrape) -> None:
    scrape.count(events.PollStopped(worker=WORKER, active_tasks=0, task_count=4, unstartable=2, duration=0.003))
    assert scrape.value("flowworker_poll_duration_seconds_sum", **WORK) == 0.003
    assert scrape.value("flowworker_poll_tasks_sum", **WORK) == 4
    assert scrape.value("flowworker_messages_unstartable_total", **WORK) == 2


def test_runs_are_counted_by_how_they_ended(scrape: Scrape) -> None:
    for event in ALL_EVENTS:
        scrape.count(event)
    assert scrape.value("flowworker_runs_started_total", slug="site_report") == 1
    for status in ("completed", "failed"):
        assert scrape.value("flowworker_runs_ended_total", slug="site_report", status=status) == 1
        assert scrape.value("flowworker_run_duration_seconds_sum", slug="site_report", status=status) == 3.0


def blocked(seconds: float) -> events.LoopBlocked:
    return events.LoopBlocked(worker=WORKER, step_slug="fetch", blocked_for=seconds, stack="")


def test_growing_reports_of_one_block_count_once_and_a_smaller_one_is_a_new_block(scrape: Scrape) -> None:
    for seconds in (1.0, 2.0, 3.5, 1.0, 1.5):
        scrape.count(blocked(seconds))
    assert scrape.value("flowworker_loop_blocked_total", **STEP) == 2
    assert scrape.value("flowworker_loop_blocked_seconds_total", **STEP) == 5.0


def test_lost_peers_and_what_was_taken_from_them_are_counted(scrape: Scrape) -> None:
    scrape.count(events.WorkerLost(worker=WORKER, lost_worker_id=UUID(int=9), released=3, failed=1))
    assert scrape.value("flowworker_workers_lost_total", **WORK) == 1
    assert scrape.value("flowworker_tasks_recovered_total", **WORK, result="released") == 3
    assert scrape.value("flowworker_tasks_recovered_total", **WORK, result="failed") == 1


def test_connections_are_down_until_a_worker_has_started(scrape: Scrape) -> None:
    assert scrape.value("flowworker_database_up", connection="pulse") == 0
    scrape.count(events.WorkerStarted(worker=WORKER))
    assert scrape.value("flowworker_database_up", connection="pulse") == 1


def test_the_connection_aside_is_shown_from_its_first_loss_on(scrape: Scrape) -> None:
    scrape.count(events.WorkerStarted(worker=WORKER))
    assert scrape.value("flowworker_database_up", connection="aside") is None
    scrape.count(events.DatabaseDown(worker=WORKER, connection="aside", error="refused"))
    assert scrape.value("flowworker_database_up", connection="aside") == 0
    scrape.count(events.DatabaseUp(worker=WORKER, connection="aside", down_for=1.0))
    assert scrape.value("flowworker_database_up", connection="aside") == 1


def test_one_lost_connection_that_two_workers_report_counts_once(scrape: Scrape) -> None:
    scrape.count(events.WorkerStarted(worker=WORKER))
    for worker in (WORKER, QUEUE_WORKER):
        scrape.count(events.DatabaseDown(worker=worker, connection="claim", error="refused"))
    scrape.count(events.WorkerStarted(worker=QUEUE_WORKER))
    assert scrape.value("flowworker_database_up", connection="claim") == 0
    assert scrape.value("flowworker_database_up", connection="finish") == 1
    assert scrape.value("flowworker_database_lost_total", connection="claim") == 1
    scrape.count(events.DatabaseUp(worker=WORKER, connection="claim", down_for=4.0))
    assert scrape.value("flowworker_database_up", connection="claim") == 1


def test_gauges_add_up_the_workers_of_one_flow_or_queue() -> None:
    other = gauges(kind=SourceKind.QUEUE, slug="mail", in_flight=1, slots=2)
    scrape = Scrape(gauges(), gauges(in_flight=3, heartbeat_age=2.5), other)
    assert scrape.value("flowworker_tasks_in_flight", **WORK) == 7
    assert scrape.value("flowworker_slots", **WORK) == 20
    assert scrape.value("flowworker_heartbeat_age_seconds", **WORK) == 2.5
    assert scrape.value("flowworker_tasks_in_flight", source="queue", slug="mail") == 1


def test_workers_are_shown_by_state() -> None:
    scrape = Scrape(gauges(), gauges(), gauges(state="draining"))
    assert scrape.value("flowworker_workers", **WORK, state="running") == 2
    assert scrape.value("flowworker_workers", **WORK, state="draining") == 1


def test_a_worker_that_is_gone_leaves_no_gauge_behind() -> None:
    scrape = Scrape(gauges())
    assert scrape.value("flowworker_slots", **WORK) == 10
    scrape.workers.clear()
    assert scrape.value("flowworker_slots", **WORK) is None


def test_before_the_first_heartbeat_there_is_no_age() -> None:
    scrape = Scrape(gauges(heartbeat_age=None))
    assert scrape.value("flowworker_heartbeat_age_seconds", **WORK) is None


def test_version_and_start_of_the_process_are_shown(scrape: Scrape) -> None:
    text = generate_latest(scrape.registry).decode()
    assert 'flowworker_build_info{version="' in text
    assert "process_start_time_seconds" in text


def test_events_dropped_for_a_subscriber_are_shown_under_its_name(scrape: Scrape) -> None:
    assert scrape.value("flowworker_events_dropped_total", subscriber="audit.send") is None
    scrape.dropped["audit.send"] = 7
    assert scrape.value("flowworker_events_dropped_total", subscriber="audit.send") == 7


def test_two_registries_count_apart() -> None:
    first, second = Scrape(), Scrape()
    first.count(STARTED)
    assert first.value("flowworker_tasks_started_total", **STEP) == 1
    assert second.value("flowworker_tasks_started_total", **STEP) is None


def all_counted() -> Scrape:
    scrape = Scrape(gauges())
    for event in ALL_EVENTS:
        scrape.count(event)
    return scrape


def test_every_listed_metric_is_exported_and_every_exported_one_is_listed() -> None:
    names = {name for family in all_counted().registry.collect() for name in (family.name, family.name + "_total")}
    listed = {spec.name for spec in METRICS}
    assert listed <= names
    ours = {family.name for family in all_counted().registry.collect() if family.name.startswith("flowworker_")}
    assert ours == {name.removesuffix("_total") for name in listed}


def test_no_series_carries_an_id_of_a_run_task_message_or_worker() -> None:
    scrape = all_counted()
    before = generate_latest(scrape.registry).decode()
    for number in range(50):
        task = flow_task(run_id=UUID(int=number), msg_id=number, task_index=number)
        worker = replace(WORKER, worker_id=UUID(int=number), worker_name=f"other-{number}")
        for event in (STARTED, STOPPED, task_failed()):
            scrape.count(replace(event, worker=worker, task=task))
    after = generate_latest(scrape.registry).decode()
    assert len(after.splitlines()) == len(before.splitlines())


@pytest.mark.parametrize("spec", [spec for spec in METRICS if isinstance(spec, HistogramSpec)], ids=lambda s: s.name)
def test_buckets_rise_are_few_and_have_a_reason(spec: HistogramSpec) -> None:
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert 5 <= len(spec.buckets) <= 12
    assert spec.why.endswith(".")


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_follow_prometheus_conventions(spec: Any) -> None:
    assert spec.name.startswith("flowworker_")
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert spec.help.endswith(".")


def test_counting_an_event_costs_little_more_than_the_increments() -> None:
    """A ratio, because the machine may be slow: below twenty bare increments."""
    scrape = Scrape()
    scrape.count(STOPPED)
    counter = Counter("bare_total", "Bare.", registry=CollectorRegistry())
    increments = min(timeit.repeat(counter.inc, number=500, repeat=5))
    counted = min(timeit.repeat(lambda: scrape.count(STOPPED), number=500, repeat=5))
    assert counted < increments * 20


def test_all_kinds_of_events_are_taken() -> None:
    assert {type(event) for event in ALL_EVENTS} == set(get_args(Event))
