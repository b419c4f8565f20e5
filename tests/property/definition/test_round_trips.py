"""Values of every type go through JSON, jsonb and JSON, and through the step after, and come back equal."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.support.typed_values import VALUES

from flowworker import Flow
from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker.definition.handler import Handler

Stored: TypeAlias = Callable[[bytes], bytes]

EXAMPLES = 20


@pytest.fixture(scope="module")
def stored(postgres: LocalServer) -> Iterator[Stored]:
    """What jsonb makes of JSON."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(postgres.dsn(), application_name="test"))

        def store(text: bytes) -> bytes:
            return runner.run(connection.fetchval("SELECT $1::text::jsonb::text", text.decode())).encode()

        yield store
        runner.run(connection.close())


def two_steps(kind: Any) -> tuple[Handler, Handler]:
    """A step that returns a type, and one that takes its output and returns it again."""
    flow = Flow("typed")

    def first(): ...

    def second(first: Any): ...

    first.__annotations__ = {"return": kind}
    second.__annotations__ = {"first": kind, "return": kind}
    return flow.step(first).handler, flow.step(second).handler


@pytest.mark.parametrize("kind", VALUES, ids=str)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_what_a_step_returns_is_what_the_next_one_gets_and_returns(
    kind: Any, data: st.DataObject, stored: Stored
) -> None:
    value = data.draw(VALUES[kind])
    first, second = two_steps(kind)

    output = stored(first.encode(value))
    got = second.decode(stored(b'{"first": %b}' % output), None).values["first"]
    again = second.decode(b'{"first": %b}' % stored(second.encode(got)), None).values["first"]

    assert got == value
    assert again == value
    assert type(got) is type(value)
