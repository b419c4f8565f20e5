"""Who is dead: only who was silent for ten seconds in which the database answered us in regular order."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.database.probe import WorkerRow
from flowworker_operator.database.liveness import DEATH_AFTER, REGULAR_GAP, SLOW, Watch, observed, silent

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def row(worker_id: UUID | None = None, *, beat: float = 0.0, state: str = "running") -> WorkerRow:
    return WorkerRow(
        worker_id=worker_id or uuid4(),
        boot_id=uuid4(),
        kind="flow",
        slug="mail",
        namespace="shop",
        flowworker="mail",
        pod_uid="pod",
        state=state,
        in_flight=0,
        last_error=None,
        on_last_attempt=False,
        started_at=EPOCH,
        beat=EPOCH + timedelta(seconds=beat),
    )


def seen(rows: Iterable[WorkerRow], times: Iterable[float], *, took: float = 0.0) -> Watch:
    """What is remembered after the same answer came at each of these times."""
    watch, rows = Watch(), list(rows)
    for time in times:
        watch = observed(watch, rows, sent=time, answered=time + took)
    return watch


def test_a_worker_that_was_silent_for_ten_seconds_is_dead() -> None:
    one = row()
    assert silent(seen([one], [0, 5, 9]), [one]) == ()
    assert silent(seen([one], [0, 5, 10]), [one]) == (one,)


def test_a_beat_starts_the_count_anew() -> None:
    one = row()
    watch = seen([one], [0, 5])
    later = replace(one, beat=one.beat + timedelta(seconds=3))
    watch = observed(watch, [later], sent=10, answered=10)
    assert silent(watch, [later]) == ()
    assert not watch.suspicious


def test_a_beat_that_goes_backwards_is_a_change_like_any_other() -> None:
    one = row(beat=3600)
    watch = seen([one], [0, 5])
    earlier = replace(one, beat=one.beat - timedelta(days=1))
    assert silent(observed(watch, [earlier], sent=10, answered=10), [earlier]) == ()


def test_an_irregular_pause_proves_nothing() -> None:
    one = row()
    frozen = seen([one], [0, 5, 5 + REGULAR_GAP + 0.1])
    assert silent(frozen, [one]) == ()
    assert silent(observed(frozen, [one], sent=17, answered=17), [one]) == ()


def test_a_clock_that_goes_backwards_proves_nothing() -> None:
    one = row()
    assert silent(seen([one], [0, 5, 4, 9]), [one]) == ()


def test_a_slow_answer_proves_nothing() -> None:
    one = row()
    watch = seen([one], [0, 5])
    watch = observed(watch, [one], sent=10, answered=10 + SLOW + 0.1)
    assert silent(watch, [one]) == ()
    assert silent(observed(watch, [one], sent=15, answered=15), [one]) == ()


def test_time_in_which_an_answer_was_on_its_way_does_not_count() -> None:
    one = row()
    assert silent(seen([one], [0, 5, 10], took=1.0), [one]) == ()
    assert silent(seen([one], [0, 5, 10, 15], took=1.0), [one]) == (one,)


@pytest.mark.parametrize("state", ["stopped", "lost"])
def test_who_has_ended_is_not_watched(state: str) -> None:
    one = row(state=state)
    assert silent(seen([one], [0, 5, 10, 15]), [one]) == ()


def test_a_row_that_was_missing_for_a_while_is_new() -> None:
    one = row()
    watch = observed(seen([one], [0, 5]), [], sent=9, answered=9)
    assert silent(observed(watch, [one], sent=12, answered=12), [one]) == ()


def test_silence_of_more_than_a_beat_is_suspicious() -> None:
    one = row()
    assert not seen([one], [0, 3]).suspicious
    assert seen([one], [0, 5]).suspicious


@given(
    gaps=st.lists(st.floats(min_value=0.1, max_value=20.0), min_size=1, max_size=30),
    took=st.floats(min_value=0.0, max_value=5.0),
)
def test_no_worker_that_beats_every_three_seconds_is_ever_dead(gaps: list[float], took: float) -> None:
    worker_id, watch, now = uuid4(), Watch(), 0.0
    for gap in gaps:
        sent = now + gap
        rows = [row(worker_id, beat=sent // 3 * 3)]
        now = sent + took
        watch = observed(watch, rows, sent=sent, answered=now)
        assert silent(watch, rows) == ()


@given(gaps=st.lists(st.floats(min_value=0.1, max_value=20.0), min_size=1, max_size=30))
def test_no_worker_is_dead_before_ten_seconds_have_passed(gaps: list[float]) -> None:
    one, watch, now = row(), Watch(), 0.0
    for gap in gaps:
        now += gap
        watch = observed(watch, [one], sent=now, answered=now)
        if now - gaps[0] < DEATH_AFTER:
            assert silent(watch, [one]) == ()
