"""The API server's time is what its answers say, whatever our own machine says."""

from datetime import UTC, datetime, timedelta

import pytest

from flowworker_operator.cluster.server_clock import ServerClock

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
NOON_SAID = "Thu, 01 Jan 2026 12:00:00 GMT"


class Machine:
    """Clocks of a machine whose time of day is an hour ahead."""

    def __init__(self) -> None:
        self.tick = 1000.0
        self.wall = NOON + timedelta(hours=1)
        self.clock = ServerClock(clock=lambda: self.tick, wall=lambda: self.wall)


def test_before_the_first_answer_it_is_our_own_time() -> None:
    machine = Machine()
    assert machine.clock.now() == machine.wall


def test_after_an_answer_the_time_goes_on_by_a_clock_that_does_not_jump() -> None:
    machine = Machine()
    machine.clock.observe(NOON_SAID)
    machine.tick += 90
    machine.wall -= timedelta(days=1)
    assert machine.clock.now() == NOON + timedelta(seconds=90)


def test_answers_that_are_late_by_a_second_move_nothing() -> None:
    machine = Machine()
    machine.clock.observe(NOON_SAID)
    machine.tick += 1.5
    machine.clock.observe(NOON_SAID)
    assert machine.clock.now() == NOON + timedelta(seconds=1.5)


def test_a_server_whose_clock_was_put_right_is_followed() -> None:
    machine = Machine()
    machine.clock.observe(NOON_SAID)
    machine.clock.observe("Thu, 01 Jan 2026 13:00:00 GMT")
    assert machine.clock.now() == NOON + timedelta(hours=1)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Thu, 99 Jan 2026 12:00:00 GMT"])
def test_a_header_without_a_time_changes_nothing(header: str | None) -> None:
    machine = Machine()
    machine.clock.observe(header)
    assert machine.clock.now() == machine.wall
