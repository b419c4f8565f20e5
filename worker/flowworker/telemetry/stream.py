"""The event stream: one synchronous fan-out that no subscriber can hurt."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from flowworker.telemetry.events import Event

logger = logging.getLogger(__name__)

Subscriber: TypeAlias = Callable[[Event], Awaitable[None] | None]


class EventStream:
    """Hands every event to every subscriber, in order of subscription.

    Synchronous subscribers run inside `emit`; what an asynchronous one returns is scheduled as a task and never
    awaited by the worker. A subscriber that raises is logged and the next one is called.
    """

    def __init__(self) -> None:
        self._subscribers: dict[object, Subscriber] = {}
        self._pending: set[asyncio.Future[None]] = set()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function removes it again, and does nothing the second time."""
        place = object()
        self._subscribers[place] = subscriber

        def unsubscribe() -> None:
            self._subscribers.pop(place, None)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell everybody. Must be called on the event loop of the worker."""
        for subscriber in tuple(self._subscribers.values()):
            try:
                answer = subscriber(event)
                if answer is not None and inspect.isawaitable(answer):
                    self._watch(asyncio.ensure_future(answer))
            except Exception:
                logger.exception("a subscriber failed on %s", type(event).__name__)

    def _watch(self, pending: "asyncio.Future[None]") -> None:
        self._pending.add(pending)
        pending.add_done_callback(self._settle)

    def _settle(self, done: "asyncio.Future[None]") -> None:
        self._pending.discard(done)
        if not done.cancelled() and done.exception() is not None:
            logger.error("an asynchronous subscriber failed", exc_info=done.exception())

    async def drain(self) -> None:
        """Wait for the asynchronous subscribers that are still at work."""
        while self._pending:
            await asyncio.wait(self._pending)
