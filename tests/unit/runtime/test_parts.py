"""Small parts: held tasks, cancellation, failures, options, next moves, exits, stacks."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import make_task

from flowworker.database.flow_results import LONGEST_DELAY
from flowworker.database.heartbeat import Drain, OwnRow
from flowworker.database.records import FailureKind
from flowworker.definition.codec import InputError, OutputError
from flowworker.definition.outcomes import Fail, Retry
from flowworker.errors import DataError, ExitCode, InternalError, UsageError
from flowworker.runtime.cancellation import CancelSignal
from flowworker.runtime.execution.children import in_words
from flowworker.runtime.execution.failures import MESSAGE_LIMIT, clean, describe_failure, timed_out
from flowworker.runtime.exits import Exit, SlotsExhaustedError, asked_for, caused_by, worst
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.lifecycle import Lifecycle, Move, decide
from flowworker.runtime.pool import claim_name, release_name
from flowworker.worker_options import WhenDrained


def test_a_slot_and_ownership_end_apart() -> None:
    held_tasks = HeldTasks(2)
    held_task = held_tasks.add(make_task(1), 0.0)
    assert (held_tasks.free, held_tasks.in_flight) == (1, 1)
    held_tasks.vacate(held_task)  # the handler has returned, its result is not yet written
    assert (held_tasks.free, held_tasks.in_flight, held_tasks.message_ids()) == (2, 1, {1})
    held_tasks.disown(held_task)
    assert (held_tasks.in_flight, held_tasks.all()) == (0, ())


def test_a_handler_past_its_end_keeps_its_slot_but_not_its_message() -> None:
    held_tasks = HeldTasks(1)
    held_task = held_tasks.add(make_task(1), 0.0)
    held_tasks.linger(held_task)
    held_tasks.disown(held_task)
    assert (held_tasks.free, held_tasks.exhausted, held_tasks.message_ids()) == (0, True, frozenset())
    held_tasks.vacate(held_task)
    assert (held_tasks.free, held_tasks.exhausted) == (1, False)


def test_of_two_claims_of_one_message_the_newer_one_counts() -> None:
    held_tasks = HeldTasks(2)
    old = held_tasks.add(make_task(1), 0.0)
    held_tasks.vacate(old)
    new = held_tasks.add(make_task(1, attempt=2), 1.0)
    assert held_tasks.owned() == (new,)
    assert held_tasks.of_messages({1}) == (new,)
    held_tasks.disown(old)
    assert held_tasks.message_ids() == {1}


def test_too_many_unwritten_results_stop_the_claims() -> None:
    held_tasks = HeldTasks(1, unwritten_limit=2)
    for number in range(2):
        held_tasks.vacate(held_tasks.add(make_task(number), 0.0))
    assert held_tasks.free == 0


@given(st.lists(st.tuples(st.sampled_from(["add", "vacate", "disown", "linger"]), st.integers(0, 7)), max_size=60))
def test_the_counts_always_agree_with_what_is_held(moves: list[tuple[str, int]]) -> None:
    held_tasks, known = HeldTasks(8), list[HeldTask]()
    for move, which in moves:
        if move == "add" and held_tasks.free:
            known.append(held_tasks.add(make_task(len(known)), 0.0))
        elif known:
            getattr(held_tasks, move if move != "add" else "vacate")(known[which % len(known)])
        everything = held_tasks.all()
        assert held_tasks.occupied == sum(one.occupying for one in everything)
        assert held_tasks.in_flight == sum(one.owned for one in everything)
        assert held_tasks.lingering == sum(one.lingering and one.occupying for one in everything)
        assert 0 <= held_tasks.free <= 8 - held_tasks.occupied


async def test_a_cancel_signal_wakes_waiters_on_any_loop_and_keeps_its_first_reason() -> None:
    signal = CancelSignal()
    heard: list[str] = []
    other = threading.Thread(target=lambda: heard.append(asyncio.run(signal.wait())))
    other.start()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not signal.is_set()
    signal.set("timeout")
    signal.set("later")
    assert await waiting == "timeout"
    assert await signal.wait() == "timeout"
    await asyncio.to_thread(other.join, 5)
    assert heard == ["timeout"]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("x"), FailureKind.EXCEPTION, "ValueError: x"),
        (ValueError(), FailureKind.EXCEPTION, "ValueError"),
        (InputError("field"), FailureKind.INPUT, "field"),
        (OutputError("place"), FailureKind.OUTPUT, "place"),
        (SystemExit(3), FailureKind.EXIT, "the handler tried to end the process: SystemExit(3)"),
        (KeyboardInterrupt(), FailureKind.EXIT, "the handler raised KeyboardInterrupt"),
        (UnprintableError(), FailureKind.EXCEPTION, "UnprintableError: <its text cannot be shown: RuntimeError>"),
        (ValueError("a\0b\ud800"), FailureKind.EXCEPTION, "ValueError: a\ufffdb?"),
    ],
)
def test_whatever_was_raised_becomes_a_failure_with_words(
    error: BaseException, kind: FailureKind, message: str
) -> None:
    failed = describe_failure(error, duration=1.5)
    assert (failed.kind, failed.message, failed.duration, failed.final) == (kind, message, 1.5, False)


def test_retry_and_fail_are_carried_over() -> None:
    assert describe_failure(Retry(after=3), duration=0).retry_after == 3
    assert describe_failure(Fail("enough"), duration=0).final


class BusyError(OSError, Retry):
    """OSError comes first, so Retry's own constructor never runs."""


class LateError(OSError, Retry):
    after = "30"


class NeverError(OSError, Retry):
    @property
    def after(self) -> float:  # type: ignore[override]
        raise RuntimeError("no such thing")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


def shapeless(kind: Callable[..., BaseException]) -> BaseException:
    """Made as its first base wants it."""
    return kind("down")


class NamelessError(Exception, metaclass=Nameless):
    pass


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (shapeless(BusyError), "gives no `after`"),
        (shapeless(LateError), "gives after='30', which is no number of seconds"),
        (shapeless(NeverError), "cannot be described: looking at it raised RuntimeError"),
        (NamelessError("x"), "cannot be described: looking at it raised RuntimeError"),
        (ExitingError(), "its text cannot be shown: SystemExit"),
    ],
    ids=["no after", "text", "property", "no name", "exit"],
)
def test_an_exception_out_of_shape_becomes_a_failure_that_says_so(error: BaseException, words: str) -> None:
    failed = describe_failure(error, duration=1.5)
    assert words in failed.message
    assert (failed.retry_after, failed.final) == (None, False)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), "30", None])
def test_a_retry_without_a_delay_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seconds"):
        Retry(after=after)


def test_a_delay_beyond_all_measure_is_cut() -> None:
    error = shapeless(BusyError)
    vars(error)["after"] = 10**400
    assert describe_failure(error, duration=0).retry_after == LONGEST_DELAY


def test_the_timeout_has_upstreams_words() -> None:
    assert timed_out(2.0, duration=2.1).message == "Task timed out after 2s"
    assert timed_out(0.5, duration=2.1).message == "Task timed out after 0.5s"


@given(st.text(), st.integers(min_value=2, max_value=50), st.booleans())
def test_cleaned_text_can_be_stored_and_is_short(text: str, limit: int, keep_end: bool) -> None:
    cleaned = clean(text, limit, keep_end=keep_end)
    assert len(cleaned) <= limit
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


def test_long_messages_are_cut() -> None:
    assert len(describe_failure(ValueError("x" * 100_000), duration=0).message) == MESSAGE_LIMIT


def row(state: str = "running", *, deprecated: bool = False, drain: bool = False) -> OwnRow:
    asked = Drain(until=datetime(2026, 1, 1, tzinfo=UTC), reason="scale down") if drain else None
    return OwnRow(state=state, deprecated=deprecated, drain=asked)


@pytest.mark.parametrize(
    ("own", "lifecycle", "in_flight", "when_drained", "move"),
    [
        (None, Lifecycle.RUNNING, 0, WhenDrained.EXIT, Move.STAY),
        (row(), Lifecycle.RUNNING, 3, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.STARTING, 0, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.RUNNING, 3, WhenDrained.EXIT, Move.DRAIN),
        (row(drain=True), Lifecycle.DRAINING, 3, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.DRAINING, 0, WhenDrained.EXIT, Move.END),
        (row(drain=True), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.STAY),
        (row(), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.RESUME),
        (row(deprecated=True), Lifecycle.RUNNING, 1, WhenDrained.WAIT, Move.DRAIN),
        (row(deprecated=True), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.END),
        (row("lost"), Lifecycle.RUNNING, 1, WhenDrained.EXIT, Move.REBORN),
        (row("lost"), Lifecycle.STOPPING, 1, WhenDrained.EXIT, Move.STAY),
    ],
)
def test_a_workers_duty_follows_from_its_row(
    own: OwnRow | None, lifecycle: Lifecycle, in_flight: int, when_drained: WhenDrained, move: Move
) -> None:
    decision = decide(own, lifecycle=lifecycle, in_flight=in_flight, when_drained=when_drained)
    assert decision.move is move
    if move is not Move.STAY:
        assert decision.reason


def test_an_exit_knows_its_code_and_whether_starting_again_helps() -> None:
    assert (asked_for("drained").code, asked_for("drained").permanent) == (ExitCode.DRAINED, True)
    assert (caused_by(RuntimeError("x")).code, caused_by(RuntimeError("x")).permanent) == (ExitCode.INTERNAL, False)
    assert caused_by(InternalError("x")).permanent is False
    assert caused_by(SlotsExhaustedError("x")).permanent
    assert caused_by(DataError("x")).code is ExitCode.DATA
    assert worst([asked_for("a"), caused_by(DataError("b"))]).code is ExitCode.DATA
    assert isinstance(worst([]), Exit)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "exited with code 3 before it answered"),
        (-9, "was killed by SIGKILL (signal 9), as the kernel does when memory runs out"),
        (-11, "was killed by SIGSEGV (signal 11)"),
        (-99, "was killed by an unknown signal (signal 99)"),
    ],
)
def test_the_end_of_a_process_in_words(code: int, words: str) -> None:
    assert in_words(code) == words


def test_a_name_is_free_again_after_its_release() -> None:
    claim_name("taken")
    with pytest.raises(UsageError, match="'taken' is in use"):
        claim_name("taken")
    release_name("taken")
    claim_name("taken")
    release_name("taken")
    release_name("never seen")
