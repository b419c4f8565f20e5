"""From measurements to figures: nothing here runs a benchmark."""

from datetime import UTC, datetime, timedelta

import pytest

from flowworker.bench.budgets import BUDGETS, Verdict, database_ratio, figures_of, judge, rate_ratio
from flowworker.bench.figures import percentile, steady_rate
from flowworker.bench.idleness import Idle
from flowworker.bench.latency import Latencies
from flowworker.bench.measurements import FULL, QUICK, Measurements, Plan
from flowworker.bench.observing import Usage
from flowworker.bench.report import latency_rows, make_report, throughput_rows
from flowworker.bench.throughput import Kind, Round, Side

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
NOTHING_USED = Usage(wal_bytes=None, statements=None, database_seconds=None, process_seconds=None)


def made_round(side: Side, rate: float, *, used: Usage = NOTHING_USED, concurrency: int = 50) -> Round:
    return Round(kind=Kind.FLOW, side=side, concurrency=concurrency, tasks=100, rate=rate, used=used)


def measured(*rounds: Round, latencies: Latencies | None = None, idle: tuple[Idle, ...] = ()) -> Measurements:
    none = Latencies(pickup=(), announced=(), steps=())
    return Measurements(rounds=rounds, latencies=latencies or none, idle=idle)


def used(database_seconds: float) -> Usage:
    return Usage(wal_bytes=5000, statements=40, database_seconds=database_seconds, process_seconds=0.5)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_rate_counts_what_ended_between_two_batches() -> None:
    """Ten batches of 50, one per 100 ms: 500 a second, although they all end at ten moments."""
    moments = [BEGIN + timedelta(milliseconds=100 * batch) for batch in range(10) for _ in range(50)]
    assert steady_rate(moments) == pytest.approx(500)


def test_the_rate_ignores_a_slow_start_and_a_slow_end() -> None:
    steady = [BEGIN + timedelta(milliseconds=10 * n) for n in range(100)]
    slow = [BEGIN - timedelta(seconds=60), BEGIN + timedelta(seconds=60)]
    assert steady_rate(steady + slow) == pytest.approx(100)


def test_the_rate_of_a_single_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        steady_rate([BEGIN] * 10)


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    """A machine that slows down in the second pair slows down both sides of it."""
    rounds = [
        made_round(Side.FLOOR, 1000), made_round(Side.WORKER, 900),
        made_round(Side.WORKER, 90), made_round(Side.FLOOR, 100),
        made_round(Side.FLOOR, 500), made_round(Side.WORKER, 100),
    ]  # fmt: skip
    assert rate_ratio(measured(*rounds), Kind.FLOW, 50) == pytest.approx(0.9)


def test_what_was_not_measured_is_unknown_and_never_met() -> None:
    verdicts = {figure.verdict for figure in figures_of(measured())}
    assert verdicts == {Verdict.UNKNOWN}


def test_processor_time_that_the_machine_does_not_report_gives_no_ratio() -> None:
    rounds = [made_round(Side.FLOOR, 1000), made_round(Side.WORKER, 900)]
    assert database_ratio(measured(*rounds), Kind.FLOW, 50) is None


@pytest.mark.parametrize(
    ("value", "at_least", "expected"),
    [
        (0.95, True, Verdict.AIM), (0.7, True, Verdict.MUST), (0.69, True, Verdict.MISSED),
        (0.7, False, Verdict.AIM), (0.95, False, Verdict.MUST), (0.96, False, Verdict.MISSED),
    ],
)  # fmt: skip
def test_a_limit_itself_still_keeps_it(value: float, at_least: bool, expected: Verdict) -> None:
    must, aim = (0.7, 0.95) if at_least else (0.95, 0.7)
    assert judge(value, must=must, aim=aim, at_least=at_least) is expected


def test_a_figure_that_is_only_reported_cannot_be_missed() -> None:
    assert judge(9.0, must=None, aim=1.1, at_least=False) is Verdict.MUST


def test_every_limit_is_at_least_as_strict_as_an_aim_as_it_is_as_a_must() -> None:
    for budget in BUDGETS:
        assert budget.must is None or (budget.aim >= budget.must) is budget.at_least


def test_rows_show_use_per_task() -> None:
    floor, worker = throughput_rows([made_round(Side.FLOOR, 1000, used=used(0.1)), made_round(Side.WORKER, 900)])
    assert (floor.statements_per_task, floor.wal_bytes_per_task) == (0.4, 50)
    assert (floor.database_seconds_per_1000, floor.process_seconds_per_1000) == (1, 5)
    assert worker.statements_per_task is None


def test_latencies_are_shown_in_milliseconds() -> None:
    latencies = Latencies(pickup=[0.004] * 100, announced=(), steps=[0.01])
    rows = latency_rows(measured(latencies=latencies))
    assert [(row.what, row.p50, row.p99, row.samples) for row in rows] == [
        ("start to handler", 4, 4, 100),
        ("step to step", 10, 10, 1),
    ]


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_every_plan_measures_what_the_budgets_ask_for(plan: Plan) -> None:
    """A full set of measurements leaves no figure unknown."""
    rounds = [
        Round(
            kind=load.kind, side=side, concurrency=load.concurrency, tasks=load.tasks, rate=1, used=used(1)
        )
        for load in plan.loads for side in Side
    ]  # fmt: skip
    idle = tuple(
        Idle(
            kind=kind, seconds=plan.idle_seconds, statements=1, database_seconds=0, process_seconds=0, resident_bytes=1
        )
        for kind in Kind
    )
    everything = measured(*rounds, latencies=Latencies(pickup=[1], announced=[1], steps=[1]), idle=idle)
    report = make_report(everything, plan, postgresql="18.0", processors=2)
    assert Verdict.UNKNOWN not in {figure.verdict for figure in report.figures}
    assert len(report.throughput) == 2 * len(plan.loads)
