"""Rounds: one at a time for each key, as often as needed, whatever they raise."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from flowworker_operator.workqueue import FIRST_PAUSE, LONGEST_ASKED, LONGEST_PAUSE, LONGEST_ROUND, WorkQueue

pytestmark = [pytest.mark.looptime]

Work = Callable[[str], Awaitable[float | None]]


class Bench:
    """A queue under test and what it has done. The group of a key is what stands before its slash."""

    def __init__(self, work: Work, *, parallel: int = 2, luck: float = 1.0) -> None:
        self.errors: list[tuple[str, Exception]] = []
        self.queue: WorkQueue[str] = WorkQueue(
            work,
            random=lambda: luck,
            clock=asyncio.get_running_loop().time,
            group=lambda key: key.partition("/")[0],
            on_error=lambda key, error: self.errors.append((key, error)),
            least_pause=lambda error: 60.0 if isinstance(error, PermissionError) else 0.0,
            parallel=parallel,
        )

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[WorkQueue[str]]:
        task = asyncio.create_task(self.queue.run())
        try:
            yield self.queue
        finally:
            task.cancel()
            await asyncio.wait((task,))


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def test_a_key_added_many_times_while_it_waits_gets_one_round() -> None:
    rounds: Counter[str] = Counter()

    async def work(key: str) -> None:
        rounds[key] += 1

    bench = Bench(work)
    for key in "aabab":
        bench.queue.add(key)
    async with bench.working():
        await asyncio.sleep(1)
    assert rounds == {"a": 1, "b": 1}


async def test_a_key_added_during_its_round_gets_one_more_and_never_two_at_once() -> None:
    running, most, rounds = 0, 0, 0

    async def work(key: str) -> None:
        nonlocal running, most, rounds
        running, rounds = running + 1, rounds + 1
        most = max(most, running)
        if rounds == 1:
            for _ in range(3):
                bench.queue.add(key)
        await asyncio.sleep(1)
        running -= 1

    bench = Bench(work, parallel=4)
    bench.queue.add("a")
    async with bench.working():
        await asyncio.sleep(5)
    assert (rounds, most) == (2, 1)


async def test_no_more_rounds_at_once_than_allowed() -> None:
    running, most = 0, 0

    async def work(_: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    bench = Bench(work, parallel=3)
    for number in range(10):
        bench.queue.add(str(number))
    assert bench.queue.depth == 10
    async with bench.working():
        await asyncio.sleep(5)
    assert (most, bench.queue.depth) == (3, 0)


async def test_a_round_says_when_the_next_is_due_and_a_change_comes_sooner() -> None:
    times: list[float] = []

    async def work(_: str) -> float:
        times.append(now())
        return 5.0

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(12)
        queue.add("a")
        await asyncio.sleep(4)
    assert times == [0, 5, 10, 12]


async def test_the_sooner_of_two_appointments_counts() -> None:
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(now())

    bench = Bench(work)
    async with bench.working() as queue:
        queue.after("a", 3)
        queue.after("a", 1)
        queue.after("a", 9)
        await asyncio.sleep(20)
    assert times == [1]


async def test_an_error_may_ask_for_a_longer_pause_within_reason() -> None:
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(now())
        raise PermissionError("not now")

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(12)
    assert times == [0, LONGEST_ASKED + FIRST_PAUSE]


async def test_whatever_a_round_raises_it_is_tried_again_after_growing_pauses() -> None:
    times: list[float] = []

    async def work(_: str) -> float:
        times.append(now())
        if len(times) <= 8:
            raise RuntimeError("no")
        return 1000.0

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(100)
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 8, LONGEST_PAUSE, LONGEST_PAUSE])
    assert len(bench.errors) == 8


async def test_pauses_are_random_and_a_success_ends_them() -> None:
    times: list[float] = []

    async def work(_: str) -> float:
        times.append(now())
        if len(times) in (1, 3):
            raise RuntimeError("no")
        return 1.0

    bench = Bench(work, luck=0.0)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(1.5)
    assert times == pytest.approx([0, 0.125, 1.125, 1.25])


async def test_changes_do_not_hurry_a_key_that_fails() -> None:
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(now())
        bench.queue.add("a")
        raise RuntimeError("no")

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        for _ in range(16):
            await asyncio.sleep(0.1)
            queue.add("a")
    assert times == pytest.approx([0, 0.25, 0.75])


async def test_a_key_that_fails_does_not_hold_the_others_back() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "bad":
            raise RuntimeError("no")
        done.append(key)

    bench = Bench(work, parallel=1)
    async with bench.working() as queue:
        for key in ("bad", "good", "better"):
            queue.add(key)
        await asyncio.sleep(0.1)
    assert done == ["good", "better"]


async def test_a_key_that_is_done_with_leaves_nothing_behind_and_may_come_back() -> None:
    rounds = 0

    async def work(_: str) -> None:
        nonlocal rounds
        rounds += 1

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(1)
        assert queue.stuck_for == 0
        queue.add("a")
        await asyncio.sleep(1)
    assert rounds == 2


async def test_a_group_with_any_number_of_long_rounds_delays_no_other() -> None:
    done: list[tuple[str, float]] = []

    async def work(key: str) -> None:
        if key.startswith("slow/"):
            await asyncio.sleep(60)
        done.append((key, now()))

    bench = Bench(work, parallel=4)
    for number in range(50):
        bench.queue.add(f"slow/{number}")
    async with bench.working() as queue:
        await asyncio.sleep(1)
        for number in range(3):
            queue.add(f"good/{number}")
        await asyncio.sleep(1)
    assert done == [("good/0", 1.0), ("good/1", 1.0), ("good/2", 1.0)]


async def test_groups_that_wait_take_turns() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    bench = Bench(work, parallel=1)
    for number in range(100):
        bench.queue.add(f"busy/{number}")
    bench.queue.add("good/0")
    async with bench.working():
        await asyncio.sleep(1)
    assert done.index("good/0") == 1
    assert len(done) == 101


async def test_what_takes_long_shows() -> None:
    bench = Bench(lambda _: asyncio.sleep(100))
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(42)
        assert queue.stuck_for == pytest.approx(42)


async def test_a_long_wait_among_many_is_not_taken_for_a_round_that_is_stuck() -> None:
    bench = Bench(lambda _: asyncio.sleep(10))
    for number in range(100):
        bench.queue.add(f"busy/{number}")
    async with bench.working() as queue:
        await asyncio.sleep(305)
        assert queue.depth > 0
        assert queue.stuck_for == pytest.approx(5)


async def test_a_round_that_does_not_end_is_cut_short_and_tried_again() -> None:
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(now())
        await asyncio.sleep(1000)

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(LONGEST_ROUND + 2)
    assert times == [0, LONGEST_ROUND + FIRST_PAUSE]
    assert [type(error) for _, error in bench.errors] == [TimeoutError]


async def test_keys_added_while_the_queue_ends_are_ignored() -> None:
    async def work(_: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            bench.queue.add("late/0")

    bench = Bench(work)
    async with bench.working() as queue:
        queue.add("a")
        await asyncio.sleep(1)
    assert queue.depth == 1
