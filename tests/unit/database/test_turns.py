"""One at a time, in order of arrival, at the first of two that is free."""

import asyncio

from flowworker.database.turns import Turns, first_turn, turn_at


async def test_turns_are_had_one_at_a_time_in_order_of_arrival() -> None:
    turns, had = Turns(), list[int]()

    async def work(number: int) -> None:
        await turn_at(turns)
        had.append(number)
        assert turns.taken
        await asyncio.sleep(0)
        turns.end()

    await asyncio.gather(*(work(number) for number in range(5)))
    assert had == [0, 1, 2, 3, 4]
    assert not turns.taken


async def test_between_two_turns_it_is_not_free() -> None:
    turns = Turns()
    await turn_at(turns)
    waiting = asyncio.create_task(turn_at(turns))
    await asyncio.sleep(0)
    turns.end()
    assert turns.taken
    await waiting
    turns.end()
    assert not turns.taken


async def test_a_turn_given_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    turns = Turns()
    await turn_at(turns)
    first, second = (asyncio.create_task(turn_at(turns)) for _ in range(2))
    await asyncio.sleep(0)
    turns.end()
    first.cancel()
    async with asyncio.timeout(5):
        await second
    assert first.cancelled()
    turns.end()
    assert not turns.taken


async def test_the_first_of_two_to_be_free_gives_the_turn_and_the_other_none() -> None:
    turns, others = Turns(), Turns()
    await turn_at(turns)
    await turn_at(others)
    waiting = asyncio.create_task(first_turn(turns, others, after=0.0))
    later = asyncio.create_task(turn_at(turns))
    await asyncio.sleep(0.01)
    others.end()
    assert await waiting is others
    turns.end()
    async with asyncio.timeout(5):
        await later
    turns.end()
    others.end()
    assert not turns.taken
    assert not others.taken


async def test_the_other_is_asked_only_after_a_while() -> None:
    turns, others = Turns(), Turns()
    await turn_at(turns)
    waiting = asyncio.create_task(first_turn(turns, others, after=60.0))
    await asyncio.sleep(0)
    assert not others.taken
    turns.end()
    assert await waiting is turns


async def test_a_wait_for_two_that_is_cancelled_takes_no_turn_of_either() -> None:
    turns, others = Turns(), Turns()
    await turn_at(turns)
    await turn_at(others)
    waiting = asyncio.create_task(first_turn(turns, others, after=0.0))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})
    turns.end()
    others.end()
    assert not turns.taken
    assert not others.taken


async def test_what_is_urgent_goes_first_and_never_twice_in_a_row_while_others_wait() -> None:
    turns, had = Turns(), list[str]()

    async def work(name: str) -> None:
        await turn_at(turns, urgent=name.startswith("urgent"))
        had.append(name)
        turns.end()

    await turn_at(turns)
    async with asyncio.TaskGroup() as group:
        for name in ("claim 1", "claim 2", "urgent 1", "urgent 2", "urgent 3", "urgent 4"):
            group.create_task(work(name))
        await asyncio.sleep(0)
        turns.end()
    assert had == ["urgent 1", "claim 1", "urgent 2", "claim 2", "urgent 3", "urgent 4"]
    assert not turns.taken


async def test_an_urgent_wait_that_is_cancelled_takes_no_turn() -> None:
    turns = Turns()
    await turn_at(turns)
    waiting = asyncio.create_task(turn_at(turns, urgent=True))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    turns.end()
    assert not turns.taken
