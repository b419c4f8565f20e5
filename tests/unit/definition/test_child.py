"""Handlers found again, and run, in another process."""

import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest

from flowworker import Fail, Flow, InputError, OutputError, Queue, Retry, TaskContext
from flowworker.definition.child import ChildContext, ChildError, find_handler, run_reference
from flowworker.definition.context import Message
from flowworker.errors import HandlerImportError

CONTEXT = ChildContext(
    run_id=UUID(int=1),
    step_slug="step",
    task_index=0,
    attempt=2,
    max_attempts=3,
    deadline=0.0,
    message=Message(msg_id=1, read_count=1, enqueued_at=datetime(2026, 1, 1, tzinfo=UTC), headers={"a": 1}),
    idempotency_key="key",
)

flow = Flow("child")
queue = Queue("child_jobs")


@flow.step(run_in="process")
def square(number: int) -> int:
    return number * number


@flow.step(run_in="process")
def asks(number: int, ctx: TaskContext) -> list[object]:
    ctx.logger.debug("in the child")
    return [ctx.attempt, ctx.run_id, ctx.cancelled.is_set(), ctx.message.headers]


@flow.step(run_in="process")
def fails(number: int) -> float:
    match number:
        case 0:
            raise ValueError("no luck")
        case 1:
            raise SystemExit(3)
        case 2:
            raise Later
        case 3:
            raise Fail("never")
        case _:
            return float("nan")


@queue.job(type="shout", run_in="process")
def shout(message: dict[str, str]) -> str:
    return message["text"].upper()


class Later(Retry):
    """Does not survive pickling by itself."""

    def __init__(self) -> None:
        super().__init__("later", after=30)


def test_a_handler_is_found_by_its_reference_and_run() -> None:
    assert run_reference(square.handler.location, b"{}", b"3", CONTEXT) == b"9"
    assert run_reference(shout.handler.location, b'{"type": "shout", "text": "a"}', None, CONTEXT) == b'"A"'
    assert find_handler(shout.handler.location) is shout.handler


def test_a_child_has_a_context() -> None:
    output = run_reference(asks.handler.location, b"{}", b"3", CONTEXT)

    assert json.loads(output) == [2, str(UUID(int=1)), False, {"a": 1}]


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (b"0", ChildError, "ValueError: no luck"),
        (b"1", ChildError, "SystemExit: 3"),
        (b"2", Retry, "later"),
        (b"3", Fail, "never"),
        (b"4", OutputError, "is nan"),
        (b'"a"', InputError, "Input should be a valid integer"),
    ],
)
def test_what_goes_wrong_in_a_child_can_be_sent_to_its_parent(
    number: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        run_reference(fails.handler.location, b"{}", number, CONTEXT)

    sent = pickle.loads(pickle.dumps(caught.value))
    assert (type(sent), str(sent)) == (error, str(caught.value))
    if isinstance(sent, Retry):
        assert sent.after == 30
    if isinstance(sent, ChildError):
        assert "in fails" in sent.stacktrace


def test_what_is_sent_to_a_child_can_be_pickled() -> None:
    sent = (square.handler.location, CONTEXT)

    assert pickle.loads(pickle.dumps(sent)) == sent


def top_level(number: int) -> int:
    return number


def test_a_flow_that_an_import_does_not_make_is_refused() -> None:
    inside = Flow("inside").step(run_in="process")(top_level)

    with pytest.raises(HandlerImportError, match=r"has no .*:inside.top_level at its top level"):
        find_handler(inside.handler.location)


SCRIPT = """
    import pickle, subprocess, sys
    from flowworker import Flow

    flow = Flow("script")

    @flow.step(run_in="process")
    def where(number: int) -> str:
        return __name__

    if __name__ == "__main__":
        sys.stdout.buffer.write(pickle.dumps(where.handler.location))
"""

CHILD = """
    import pickle, sys
    from flowworker.definition.child import run_reference

    reference, context = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(run_reference(reference, b"{}", b"3", context))
"""


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(["child_script.py"], "__mp_main__"), (["-m", "child_script"], "child_script")],
    ids=["as a script", "as a module"],
)
def test_a_script_is_imported_again_under_another_name(tmp_path: Path, arguments: list[str], module: str) -> None:
    (tmp_path / "child_script.py").write_text(dedent(SCRIPT))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def python(arguments: list[str], given: bytes) -> bytes:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, input=given, capture_output=True, check=True
        ).stdout

    reference = pickle.loads(python(arguments, b""))
    output = python(["-c", dedent(CHILD)], pickle.dumps((reference, CONTEXT)))

    assert json.loads(output) == module
