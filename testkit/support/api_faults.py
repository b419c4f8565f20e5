"""What can go wrong with a call: functions to give to `ApiProxy.intercept`."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias

import orjson
from testkit.support.api_calls import Answer, Call, Object

Forward: TypeAlias = Callable[[], Awaitable[Answer]]
"""Let the server do it."""
Handling: TypeAlias = Callable[[Call, Forward], Awaitable[Answer | None]]
"""What becomes of a call; None resets its connection."""

JSON = {"Content-Type": "application/json"}
REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


def answers(status: int, *, retry_after: int | None = None) -> Handling:
    """The server never hears of it; the client gets an error."""

    async def handle(_call: Call, _forward: Forward) -> Answer:
        return failure(status, retry_after=retry_after)

    return handle


def does_and_answers(status: int) -> Handling:
    """The server does it; the client gets an error all the same."""

    async def handle(_call: Call, forward: Forward) -> Answer:
        await forward()
        return failure(status)

    return handle


def resets() -> Handling:
    """The connection breaks before the server hears of it."""

    async def handle(_call: Call, _forward: Forward) -> None:
        return None

    return handle


def before(action: Callable[[], Awaitable[None]]) -> Handling:
    """Do something, and let the server never hear of the call: what the client had sent was lost on its way."""

    async def handle(_call: Call, _forward: Forward) -> None:
        await action()

    return handle


def after(action: Callable[[], Awaitable[None]]) -> Handling:
    """Let the server do it, then do something, and let the client never hear of it."""

    async def handle(_call: Call, forward: Forward) -> None:
        await forward()
        await action()

    return handle


def delays(until: asyncio.Event) -> Handling:
    """The server does it at once; the client hears of it later."""

    async def handle(_call: Call, forward: Forward) -> Answer:
        answer = await forward()
        await until.wait()
        return answer

    return handle


def repeats(old: Answer) -> Handling:
    """The client gets an answer that was true once."""

    async def handle(_call: Call, _forward: Forward) -> Answer:
        return old

    return handle


def failure(status: int, *, retry_after: int | None = None) -> Answer:
    """An error in the API server's own form."""
    status_object: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": REASONS.get(status, HTTPStatus(status).phrase.replace(" ", "")),
        "message": f"made by a test: {HTTPStatus(status).phrase}",
        "code": status,
    }
    headers = JSON if retry_after is None else {**JSON, "Retry-After": str(retry_after)}
    return Answer(status=status, headers=headers, body=orjson.dumps(status_object))
