"""The event stream: order, and what a failing subscriber cannot do."""

import asyncio
import logging

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


def test_every_kind_of_event_is_in_the_samples() -> None:
    from typing import get_args

    assert {type(event) for event in ALL_EVENTS} == set(get_args(Event))
