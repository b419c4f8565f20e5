"""The event stream: order, and what a failing subscriber cannot do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from tests.unit.telemetry.samples import ALL_EVENTS, STARTED, STOPPED

from flowworker.telemetry.events import Event
from flowworker.telemetry.stream import EventStream


def test_subscribers_are_called_at_once_in_the_order_they_came() -> None:
    stream, seen = EventStream(), list[tuple[str, Event]]()
    stream.subscribe(lambda event: seen.append(("first", event)))
    stream.subscribe(lambda event: seen.append(("second", event)))
    stream.emit(STARTED)
    assert seen == [("first", STARTED), ("second", STARTED)]


def test_a_subscriber_that_raises_is_logged_and_the_next_one_is_called(caplog: pytest.LogCaptureFixture) -> None:
    stream, seen = EventStream(), list[Event]()

    def fails(event: Event) -> None:
        raise RuntimeError("no room")

    stream.subscribe(fails)
    stream.subscribe(seen.append)
    with caplog.at_level(logging.ERROR):
        stream.emit(STARTED)
    assert seen == [STARTED]
    assert "a subscriber failed on TaskStarted" in caplog.text
    assert "no room" in caplog.text


def test_an_unsubscribed_one_hears_nothing_more() -> None:
    stream, seen = EventStream(), list[Event]()
    unsubscribe = stream.subscribe(seen.append)
    stream.emit(STARTED)
    unsubscribe()
    stream.emit(STOPPED)
    assert seen == [STARTED]


def test_unsubscribing_twice_is_harmless() -> None:
    stream = EventStream()
    unsubscribe = stream.subscribe(lambda event: None)
    unsubscribe()
    unsubscribe()


def test_a_subscriber_may_unsubscribe_while_it_is_called() -> None:
    stream, seen = EventStream(), list[Event]()

    def once(event: Event) -> None:
        unsubscribe()

    unsubscribe = stream.subscribe(once)
    stream.subscribe(seen.append)
    stream.emit(STARTED)
    assert seen == [STARTED]


async def test_an_asynchronous_subscriber_does_not_hold_up_the_emitter_and_is_waited_for_by_drain() -> None:
    stream, seen, gate = EventStream(), list[Event](), asyncio.Event()

    async def slow(event: Event) -> None:
        await gate.wait()
        seen.append(event)

    stream.subscribe(slow)
    stream.emit(STARTED)
    assert seen == []
    gate.set()
    await stream.drain()
    assert seen == [STARTED]


async def test_an_asynchronous_subscriber_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = EventStream()

    async def fails(event: Event) -> None:
        raise RuntimeError("no room")

    stream.subscribe(fails)
    with caplog.at_level(logging.ERROR):
        stream.emit(STARTED)
        await stream.drain()
    assert "an asynchronous subscriber failed" in caplog.text
    assert "no room" in caplog.text


async def test_cancelling_an_asynchronous_subscriber_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    stream, started = EventStream(), asyncio.Event()
    tasks: list[asyncio.Task[object] | None] = []

    async def endless(event: Event) -> None:
        tasks.append(asyncio.current_task())
        started.set()
        await asyncio.Event().wait()

    stream.subscribe(endless)
    stream.emit(STARTED)
    await started.wait()
    (task,) = tasks
    assert task is not None
    task.cancel()
    await stream.drain()
    assert caplog.text == ""


UNUSUAL = [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, RecursionError]


@pytest.mark.parametrize("kind", UNUSUAL)
def test_whatever_a_subscriber_raises_the_emitter_and_its_neighbours_do_not_notice(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    stream, seen = EventStream(), list[Event]()

    def fails(event: Event) -> None:
        raise kind("unusual")

    stream.subscribe(fails)
    stream.subscribe(seen.append)
    stream.emit(STARTED)
    stream.emit(STOPPED)
    assert seen == [STARTED, STOPPED]
    assert f"{__name__}.{fails.__qualname__}" in caplog.text


@pytest.mark.parametrize("kind", UNUSUAL)
async def test_whatever_an_asynchronous_subscriber_raises_the_event_loop_goes_on(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    stream = EventStream()

    async def fails(event: Event) -> None:
        raise kind("unusual")

    stream.subscribe(fails)
    stream.emit(STARTED)
    await stream.drain()
    assert ("an asynchronous subscriber failed" in caplog.text) == (kind is not asyncio.CancelledError)


async def test_a_subscriber_whose_calls_do_not_end_misses_events_and_is_counted_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, seen, gate = EventStream(pending_limit=3), list[Event](), asyncio.Event()

    async def waits(event: Event) -> None:
        await gate.wait()

    stream.subscribe(waits)
    stream.subscribe(seen.append)
    for _ in range(10):
        stream.emit(STARTED)
    name = f"{__name__}.{waits.__qualname__}"
    assert stream.dropped == {name: 7}
    assert len(seen) == 10
    assert caplog.text.count(name) == 1
    gate.set()
    await stream.drain()
    stream.emit(STARTED)
    assert stream.dropped == {name: 7}
    await stream.drain()


@pytest.mark.looptime
async def test_a_drain_cancels_what_does_not_return(caplog: pytest.LogCaptureFixture) -> None:
    stream, cancelled = EventStream(), list[bool]()

    async def never(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    stream.subscribe(never)
    stream.emit(STARTED)
    async with asyncio.timeout(2.5):
        await stream.drain()
    assert cancelled == [True]
    (record,) = caplog.records
    assert "had not ended after 2 s and were cancelled, 0 still run" in record.message


@pytest.mark.looptime
async def test_a_drain_abandons_what_swallows_its_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    stream, end = EventStream(), asyncio.Event()

    async def stubborn(event: Event) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    stream.subscribe(stubborn)
    stream.emit(STARTED)
    async with asyncio.timeout(3.5):
        await stream.drain()
    (record,) = caplog.records
    assert "1 still run" in record.message
    assert stubborn.__qualname__ in record.message
    end.set()
    await stream.drain()


async def test_a_call_that_never_began_is_ended_without_a_warning() -> None:
    stream = EventStream()

    async def subscriber(event: Event) -> None: ...

    stream.subscribe(subscriber)
    stream.emit(STARTED)
    await stream.drain(timeout=0)


def test_a_slow_synchronous_subscriber_is_named_once_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    seconds = 0.0

    def slow(event: Event) -> None:
        nonlocal seconds
        seconds += 0.25

    stream = EventStream(clock=lambda: seconds)
    stream.subscribe(slow)
    stream.emit(STARTED)
    stream.emit(STARTED)
    (record,) = caplog.records
    assert f"{__name__}.{slow.__qualname__} took 0.25 s for TaskStarted" in record.message


def test_subscribers_of_all_kinds_have_a_name(caplog: pytest.LogCaptureFixture) -> None:
    class Counter:
        def __call__(self, event: Event) -> None:
            raise RuntimeError

        def count(self, event: Event) -> None:
            raise RuntimeError

    kinds: dict[str, Callable[[Event], Awaitable[None] | None]] = {
        f"{Counter.__qualname__}": Counter(),
        f"{Counter.__qualname__}.count": Counter().count,
        "partial": partial(Counter().count),
    }
    for name, subscriber in kinds.items():
        stream = EventStream()
        stream.subscribe(subscriber)
        caplog.clear()
        stream.emit(STARTED)
        assert caplog.records[0].getMessage().endswith(f".{name}")


def test_every_kind_of_event_is_in_the_samples() -> None:
    from typing import get_args

    assert {type(event) for event in ALL_EVENTS} == set(get_args(Event))
