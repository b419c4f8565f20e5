"""Which peers are dead: never one that lives, and soon one that does not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.runtime.heartbeat.extender import BEAT_INTERVAL
from flowworker.runtime.heartbeat.liveness import (
    DEATH_AFTER,
    FROZEN_AFTER,
    Success,
    Watch,
    alive_since,
    dead_at,
    failed,
    quiet_since,
    succeeded,
    watched_for,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def beat(watch: Watch, sent: float, *, took: float = 0.01, clock: float = 0.0, server: int = 0) -> Watch:
    """A success; the database's clock shows `clock` seconds more than ours."""
    moment = at(sent + took / 2 + clock)
    return succeeded(watch, Success(sent=sent, received=sent + took, at=moment, server=at(server)))


def regular(watch: Watch, start: float, beats: int, *, took: float = 0.01, gap: float = BEAT_INTERVAL) -> Watch:
    """Beats in regular order."""
    for number in range(beats):
        watch = beat(watch, start + number * gap, took=took)
    return watch


def first_judgement(*, took: float, gap: float = BEAT_INTERVAL) -> float | None:
    """Seconds after the first success at which it first judges."""
    watch = Watch()
    for number in range(30):
        sent = number * gap
        if alive_since(watch, sent) is not None:
            return sent
        watch = beat(watch, sent, took=took)
    return None


def test_it_has_watched_since_the_first_of_its_heartbeats_in_order() -> None:
    watch = regular(Watch(), 100.0, 4)
    assert watched_for(watch, 111.01) == pytest.approx(11.0)
    assert watched_for(failed(watch), 111.01) == 0.0
    assert watched_for(watch, 109.0 + FROZEN_AFTER + 1) == 0.0
    assert watched_for(beat(watch, 112.0, server=1), 113.01) == pytest.approx(1.0)


def test_who_has_not_reported_since_a_beat_of_ours_ten_seconds_ago_is_dead() -> None:
    watch = regular(Watch(), 100.0, 4)
    assert alive_since(watch, 100.0 + 3 * BEAT_INTERVAL) is None
    assert alive_since(watch, 100.0 + 4 * BEAT_INTERVAL) == watch.successes[0].at


@given(
    gap=st.floats(min_value=0.5, max_value=BEAT_INTERVAL),
    took=st.floats(min_value=0, max_value=1),
    last=st.floats(min_value=0, max_value=2 * BEAT_INTERVAL),
)
def test_a_silent_peer_is_dead_as_soon_as_it_can_be(gap: float, took: float, last: float) -> None:
    heard, watch = at(last), Watch()
    sent = 0.0
    while (due := dead_at(watch, heard)) > sent:
        watch = beat(watch, sent, took=took)
        sent += max(gap, took)
    assert due <= last + took + max(gap, took) + DEATH_AFTER + 1e-6  # sums of floats are rounded
    before, then = alive_since(watch, due - 0.001), alive_since(watch, due + 0.001)
    assert before is None or before <= heard
    assert then is not None
    assert then > heard


def test_a_peer_in_rhythm_is_not_quiet_and_a_dead_one_is() -> None:
    watch = regular(Watch(), 100.0, 8)
    quiet, dead = quiet_since(watch, 124.0), alive_since(watch, 124.0)
    assert quiet == watch.successes[5].at
    assert dead == watch.successes[4].at
    assert quiet_since(Watch(), 124.0) is None


@pytest.mark.parametrize("round_trip", [0.001, 0.4, 2.0])
def test_latency_does_not_stop_the_judging(round_trip: float) -> None:
    judged = first_judgement(took=round_trip)
    assert judged is not None
    assert DEATH_AFTER <= judged <= DEATH_AFTER + round_trip + BEAT_INTERVAL


def test_beats_that_come_slowly_judge_more_slowly() -> None:
    assert first_judgement(took=0.01, gap=8.0) == 32.0
    assert first_judgement(took=0.01, gap=FROZEN_AFTER + 1) is None


def test_a_failed_beat_of_our_own_starts_the_count_anew() -> None:
    watch = failed(regular(Watch(), 0.0, 10))
    watch = regular(watch, 30.0, 4)
    assert alive_since(watch, 30.0 + 3 * BEAT_INTERVAL + 1) is None


def test_a_frozen_observer_starts_anew() -> None:
    watch = regular(Watch(), 0.0, 10)
    watch = beat(watch, 3600.0)
    assert len(watch.successes) == 1


@pytest.mark.parametrize("step", [-3600.0, -2.0, 2.0, 3600.0])
def test_a_step_of_the_databases_clock_starts_anew(step: float) -> None:
    watch = beat(regular(Watch(), 0.0, 10), 30.0, clock=step)
    assert len(watch.successes) == 1


def test_a_clock_that_is_merely_another_one_does_not() -> None:
    watch = Watch()
    for number in range(5):
        watch = beat(watch, number * BEAT_INTERVAL, clock=86_400.0)
    assert alive_since(watch, 5 * BEAT_INTERVAL) is not None


def test_another_server_starts_anew_though_no_beat_failed() -> None:
    watch = beat(regular(Watch(), 0.0, 10), 30.0, server=1)
    assert len(watch.successes) == 1


def test_what_is_remembered_is_bounded() -> None:
    assert len(regular(Watch(), 0.0, 1000).successes) < 100


@dataclass
class Tick:
    """One beat of the observer: how long after the last one it is sent, how long it takes, and whether it succeeds."""

    pause: float
    took: float
    succeeds: bool


ticks = st.lists(
    st.builds(
        Tick,
        pause=st.one_of(st.floats(min_value=0, max_value=5), st.floats(min_value=0, max_value=4000)),
        took=st.floats(min_value=0, max_value=5),
        succeeds=st.integers(min_value=0, max_value=9).map(bool),
    ),
    max_size=60,
)


@given(ticks=ticks, silence=st.floats(min_value=0.0, max_value=DEATH_AFTER - 0.1))
def test_a_peer_that_reports_within_ten_seconds_of_our_own_successes_is_never_judged(
    ticks: list[Tick], silence: float
) -> None:
    watch, now, reported = Watch(), 0.0, 0.0
    for tick in ticks:
        now += tick.pause
        sent, received = now, now + tick.took
        since = alive_since(watch, sent)
        now = received
        if not tick.succeeds:
            watch = failed(watch)
            reported = max(reported, received)  # the outage is one for all; the peer reports as soon as it is over
            continue
        reported = max(reported, sent - silence)
        watch = succeeded(watch, Success(sent=sent, received=received, at=at((sent + received) / 2), server=EPOCH))
        if since is not None and len(watch.successes) > 1:
            assert at(reported) >= since
