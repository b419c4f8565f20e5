"""When the poller looks again, in virtual time."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import now

from flowworker.runtime.backoff import backoff
from flowworker.runtime.loops.wakeup import TRAILING_DELAY, Adaptive, Fixed, Wakeup
from flowworker.worker_options import Strategy

pytestmark = pytest.mark.looptime


def make_wakeup(*, fallback: float | None = None, fixed: float | None = None) -> Wakeup:
    polling = Fixed(fixed) if fixed is not None else Adaptive(1.0, 5.0, random.Random(1).uniform)
    strategy = Strategy.POLLING if fallback is None else Strategy.NOTIFY
    return Wakeup(strategy=strategy, polling=polling, fallback=fallback, clock=now, uniform=random.Random(1).uniform)


async def slept(wakeup: Wakeup, *, found: bool = False) -> float:
    began = now()
    await wakeup.sleep(found=found)
    return now() - began


async def begin_to_listen(wakeup: Wakeup) -> None:
    """It polls at once, and once more when the throttle of an announcement that it missed must be over."""
    wakeup.listen_state(listening=True, degraded=None)
    assert await slept(wakeup) == 0
    assert TRAILING_DELAY[0] <= await slept(wakeup) <= TRAILING_DELAY[1]


@given(seed=st.integers(), empties=st.integers(min_value=1, max_value=50))
def test_polling_backs_off_between_its_bounds_with_decorrelated_jitter(seed: int, empties: int) -> None:
    cadence = Adaptive(1.0, 5.0, random.Random(seed).uniform)
    previous = 1.0
    for _ in range(empties):
        pause = cadence.pause(found=False)
        assert 1.0 <= pause <= min(3 * previous, 5.0)
        previous = pause
    assert cadence.pause(found=True) == 1.0


@given(failures=st.integers(min_value=1, max_value=10_000), luck=st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_below_its_cap(failures: int, luck: float) -> None:
    delay = backoff(failures, lambda: luck, base=0.25, cap=5.0)
    assert 0 <= delay <= min(5.0, 0.25 * 2.0 ** min(failures, 32))
    assert backoff(failures, lambda: 0.0) == 0


async def test_work_resets_the_pause() -> None:
    wakeup = make_wakeup()
    for _ in range(10):
        await slept(wakeup)
    assert await slept(wakeup, found=True) == pytest.approx(1.0)


async def test_a_nudge_ends_the_sleep_at_once() -> None:
    wakeup = make_wakeup()
    asyncio.get_running_loop().call_later(0.3, wakeup.nudge)
    assert await slept(wakeup) == pytest.approx(0.3)


async def test_a_nudge_while_awake_is_not_lost() -> None:
    wakeup = make_wakeup()
    wakeup.nudge()
    assert await slept(wakeup) == 0
    assert await slept(wakeup) >= 1.0


async def test_a_due_message_shortens_the_pause_once() -> None:
    wakeup = make_wakeup(fallback=30.0)
    await begin_to_listen(wakeup)
    wakeup.due_in(4.0)
    wakeup.due_in(9.0)
    assert await slept(wakeup) == pytest.approx(4.0)
    assert await slept(wakeup) == pytest.approx(30.0)


async def test_a_due_message_learnt_of_while_asleep_shortens_the_pause() -> None:
    wakeup = make_wakeup(fallback=30.0)
    await begin_to_listen(wakeup)
    asyncio.get_running_loop().call_later(2.0, wakeup.due_in, 3.0)
    assert await slept(wakeup) == pytest.approx(5.0)


async def test_an_announcement_is_followed_by_a_trailing_poll() -> None:
    wakeup = make_wakeup(fallback=30.0)
    await begin_to_listen(wakeup)
    asyncio.get_running_loop().call_later(7.0, wakeup.announced)
    assert await slept(wakeup) == pytest.approx(7.0)
    trailing = await slept(wakeup, found=True)
    assert TRAILING_DELAY[0] <= trailing <= TRAILING_DELAY[1]
    assert await slept(wakeup) == pytest.approx(30.0)


async def test_the_trailing_poll_follows_the_latest_announcement() -> None:
    wakeup = make_wakeup(fallback=30.0)
    await begin_to_listen(wakeup)
    loop = asyncio.get_running_loop()
    began = now()
    for at in (1.0, 1.25):  # the second comes when the throttle of the first is over, and throttles in its turn
        loop.call_later(at, wakeup.announced)
    polls: list[float] = []
    while not polls or polls[-1] < 20:
        await slept(wakeup)
        polls.append(now() - began)
    assert polls[:2] == pytest.approx([1.0, 1.25])
    assert 1.25 + TRAILING_DELAY[0] <= polls[2] <= 1.25 + TRAILING_DELAY[1]
    assert polls[3] == pytest.approx(polls[2] + 30.0)


async def test_without_announcements_notify_polls_and_says_why() -> None:
    wakeup = make_wakeup(fallback=30.0)
    wakeup.listen_state(listening=False, degraded="no trigger: SELECT …")
    assert await slept(wakeup) == 0
    assert await slept(wakeup) <= 5.0
    state = wakeup.state()
    assert (state.strategy, state.listening, state.degraded) == (Strategy.NOTIFY, False, "no trigger: SELECT …")
    assert (state.min_interval, state.max_interval, state.fallback_interval) == (1.0, 5.0, 30.0)


async def test_a_queue_has_one_fallback_timer_however_often_it_is_woken() -> None:
    wakeup = make_wakeup(fixed=1.0)
    loop = asyncio.get_running_loop()
    for number in range(1, 200):
        loop.call_later(number * 0.01, wakeup.nudge)
    wakes = 0
    while now() < 1.995:
        await slept(wakeup)
        wakes += 1
    assert wakes <= 200
    after: list[float] = []
    for _ in range(5):  # a multiplied timer would fire more often than once a second
        after.append(await slept(wakeup))
    assert after == pytest.approx([1.0] * 5)


async def test_the_state_says_when_the_next_poll_comes() -> None:
    wakeup = make_wakeup(fixed=1.0)
    sleeping = asyncio.create_task(wakeup.sleep(found=False))
    await asyncio.sleep(0.25)
    assert wakeup.state().next_poll_in == pytest.approx(0.75)
    await sleeping
    assert wakeup.state().next_poll_in is None
