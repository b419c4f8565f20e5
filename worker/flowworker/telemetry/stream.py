"""The event stream: one synchronous fan-out that no subscriber can hurt, whatever it raises."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from flowworker.telemetry.events import Event

logger = logging.getLogger(__name__)

Subscriber: TypeAlias = Callable[[Event], Awaitable[None] | None]

PENDING_LIMIT = 256
"""Calls of one asynchronous subscriber at once. Each keeps its event, and with it a task's input."""

SLOW_AFTER = 0.1
"""Seconds in a synchronous subscriber that are worth a warning: the event loop does nothing else meanwhile."""

DRAIN_TIMEOUT = 2.0
"""Seconds that a drain waits for asynchronous subscribers before it cancels them."""

CANCEL_GRACE = 1.0
"""Seconds that cancelled calls get to end."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Subscription:
    subscriber: Subscriber
    name: str
    pending: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])
    known_slow: bool = False


class EventStream:
    """Hands every event to every subscriber, in order of subscription.

    Synchronous subscribers run inside `emit`, so they must be quick; one that takes more than 0.1 s is named once in
    the log. What an asynchronous one returns runs as a task that the worker never awaits. Whatever a subscriber
    raises, `CancelledError`, `SystemExit` and `KeyboardInterrupt` included, is logged, and the next one is called. So
    Ctrl-C that arrives exactly inside a subscriber has to be pressed again: to end there would lose results.
    """

    def __init__(self, *, pending_limit: int = PENDING_LIMIT, clock: Callable[[], float] = time.perf_counter) -> None:
        """Take the bounds.

        Args:
            pending_limit: calls of one asynchronous subscriber at once; events beyond are not given to it, but counted.
            clock: monotonic seconds, for the time that synchronous subscribers take.
        """
        self._pending_limit = pending_limit
        self._clock = clock
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._pending: set[asyncio.Task[None]] = set()
        self._dropped: dict[str, int] = {}

    @property
    def dropped(self) -> Mapping[str, int]:
        """Events that were not given to a subscriber because too many of its calls were pending, by its name."""
        return dict(self._dropped)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function removes it again, and does nothing the second time."""
        subscription = _Subscription(subscriber=subscriber, name=_name(subscriber))
        self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Hand an event to all subscribers. Must be called on the event loop of the worker. Raises nothing."""
        for subscription in self._subscriptions:
            if len(subscription.pending) >= self._pending_limit:
                self._drop(subscription)
            else:
                self._call(subscription, event)

    async def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """Wait for the calls of asynchronous subscribers that are pending now, but not for ever.

        Args:
            timeout: seconds after which they are cancelled; what then does not end within another second is abandoned.
        """
        late = await _unfinished(self._pending, timeout)
        for call in late:
            call.cancel()
        stubborn = await _unfinished(late, CANCEL_GRACE)
        if late:
            logger.warning(
                "%d calls of asynchronous subscribers had not ended after %g s and were cancelled, %d still run: %s",
                len(late), timeout, len(stubborn), ", ".join(sorted({call.get_name() for call in late})),
            )  # fmt: skip

    def _call(self, subscription: _Subscription, event: Event) -> None:
        began = self._clock()
        try:
            answer = subscription.subscriber(event)
            if answer is not None and inspect.isawaitable(answer):
                self._attend(subscription, answer)
        except BaseException as error:
            logger.error("a subscriber failed on %s: %s", type(event).__name__, subscription.name, exc_info=error)
        took = self._clock() - began
        if took > SLOW_AFTER and not subscription.known_slow:
            subscription.known_slow = True
            logger.warning(
                "subscriber %s took %.2f s for %s, and nothing else ran meanwhile; this is said once",
                subscription.name, took, type(event).__name__,
            )  # fmt: skip

    def _attend(self, subscription: _Subscription, answer: Awaitable[None]) -> None:
        call = asyncio.get_running_loop().create_task(_finish(subscription.name, answer), name=subscription.name)
        for pending in (subscription.pending, self._pending):
            pending.add(call)
            call.add_done_callback(pending.discard)
        if inspect.iscoroutine(answer):  # a call that was cancelled before its first step has awaited nothing
            call.add_done_callback(lambda _: answer.close())

    def _drop(self, subscription: _Subscription) -> None:
        dropped = self._dropped.get(subscription.name, 0)
        self._dropped[subscription.name] = dropped + 1
        if dropped == 0:
            logger.warning(
                "subscriber %s has %d calls pending: it misses events until some have ended; this is said once",
                subscription.name, self._pending_limit,
            )  # fmt: skip


async def _finish(name: str, answer: Awaitable[None]) -> None:
    """Await what a subscriber returned. A task that ended by SystemExit would end the event loop."""
    try:
        await answer
    except asyncio.CancelledError:
        return
    except BaseException as error:
        logger.error("an asynchronous subscriber failed: %s", name, exc_info=error)


async def _unfinished(calls: "set[asyncio.Task[None]]", timeout: float) -> "set[asyncio.Task[None]]":
    if not calls:
        return set()
    return (await asyncio.wait(set(calls), timeout=timeout))[1]


def _name(subscriber: Subscriber) -> str:
    """Where a subscriber is defined; bounded, because a metric carries it."""
    defined = subscriber if hasattr(subscriber, "__qualname__") else type(subscriber)
    return f"{defined.__module__}.{getattr(defined, '__qualname__', '')}"
