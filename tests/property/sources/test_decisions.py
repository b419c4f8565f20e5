"""The pure decisions behind the sources."""

import itertools
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.backends import MemoryBackend
from tests.integration.sources.flows import one_step
from tests.integration.sources.world import claim_all, failed

from flowworker.database.flow_results import storable_text
from flowworker.database.headers import count_of, losses_of, our_headers
from flowworker.database.identifiers import MAX_IDENTIFIER_BYTES, archive_table, insert_channel, queue_table, quote
from flowworker.database.job_outcomes import LONGEST_BACKOFF, backoff, plan_for
from flowworker.database.leftovers import (
    FOREIGN_BACKOFF_LIMIT,
    FOREIGN_READS_BEFORE_WARNING,
    RUNNING_ELSEWHERE_LIMIT,
    Leftover,
    Reading,
    treat,
)
from flowworker.database.queue_jobs import Ending, PutBack
from flowworker.database.records import Completed, Failed
from flowworker.database.statements import fill, load
from flowworker.database.stranded import APART, CRASH_BUDGET, LONGEST_APART, GiveBack, GiveUp, fate_of, waits
from flowworker.definition.options import QueueOptions
from flowworker.errors import UsageError
from flowworker.testing.memory_queue import Message

TASK_STATES = st.sampled_from([None, "queued", "started", "completed", "failed", "skipped", "cancelled"])
RUN_STATES = st.sampled_from([None, "started", "completed", "failed"])
SECONDS = st.floats(0, 1e7, allow_nan=False)

LEFTOVERS = st.builds(
    Leftover,
    msg_id=st.integers(1),
    read_count=st.integers(1, 10**6),
    task_status=TASK_STATES,
    run_status=RUN_STATES,
    running_for=st.none() | SECONDS,
    timeout=st.none() | SECONDS,
)


@given(LEFTOVERS)
def test_only_a_message_whose_task_or_run_has_ended_is_archived(leftover: Leftover) -> None:
    treatment = treat(leftover, grace=10)
    ended = leftover.task_status in ("completed", "failed", "skipped", "cancelled") or leftover.run_status != "started"
    assert treatment.archive == (leftover.task_status is not None and ended)


@given(LEFTOVERS)
def test_what_is_put_off_comes_back_neither_too_soon_nor_never(leftover: Leftover) -> None:
    treatment = treat(leftover, grace=10)
    if treatment.delay is not None:
        assert not treatment.archive
        assert 10 <= treatment.delay <= max(FOREIGN_BACKOFF_LIMIT, RUNNING_ELSEWHERE_LIMIT)


@given(st.integers(1, 100))
def test_exactly_one_read_of_a_foreign_message_warns(reads: int) -> None:
    warnings = [
        treat(
            Leftover(msg_id=1, read_count=n, task_status=None, run_status=None, running_for=None, timeout=None), grace=1
        ).warn
        for n in range(1, reads + 1)
    ]
    assert sum(warnings) == (reads >= FOREIGN_READS_BEFORE_WARNING)


def test_a_queued_task_is_left_with_the_visibility_of_the_read() -> None:
    leftover = Leftover(
        msg_id=1, read_count=1, task_status="queued", run_status="started", running_for=None, timeout=5.0
    )
    treatment = treat(leftover, grace=10)
    assert (treatment.reading, treatment.archive, treatment.delay) == (Reading.WAITING, False, None)


@given(st.integers(0, 100), st.booleans(), st.integers(0, 50))
def test_losses_are_forgiven_within_the_budget_only(losses: int, is_loss: bool, budget: int) -> None:
    total = losses + is_loss
    match fate_of(losses, is_loss=is_loss, budget=budget):
        case GiveBack(losses=counted):
            assert total <= budget
            assert counted == total
        case GiveUp(error=error):
            assert total > budget
            assert error.startswith(f"{total} workers died")


def test_three_losses_are_forgiven() -> None:
    assert [isinstance(fate_of(losses, is_loss=True), GiveBack) for losses in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert CRASH_BUDGET == 3


@given(st.text())
def test_a_quoted_name_is_refused_or_kept_letter_by_letter(name: str) -> None:
    try:
        quoted = quote(name)
    except (UsageError, UnicodeEncodeError):
        return
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', '"') == name
    assert '"' not in quoted[1:-1].replace('""', "")
    assert len(name.encode()) <= MAX_IDENTIFIER_BYTES


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "ü" * 32])
def test_names_postgresql_would_cut_or_refuse_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no usable name"):
        quote(name)


@pytest.mark.parametrize("name", ["a$b", "a;b", "a--b", "a'b"])
def test_queue_names_pgmq_refuses_are_refused(name: str) -> None:
    for make in (queue_table, archive_table, insert_channel):
        with pytest.raises(UsageError, match="pgmq refuses"):
            make(name)


def test_the_tables_and_the_channel_of_a_queue_are_in_lower_case() -> None:
    assert (queue_table("MyFlow"), archive_table("MyFlow")) == ('pgmq."q_myflow"', 'pgmq."a_myflow"')
    assert insert_channel("MyFlow") == "pgmq.q_myflow.INSERT"


def test_a_statement_is_loaded_without_comments_and_refuses_missing_parts() -> None:
    assert load("flow/flow_input") == "SELECT input FROM pgflow.runs WHERE run_id = $1::uuid"
    with pytest.raises(KeyError, match="queue_table"):
        fill("flow/next_due")


@given(st.text())
def test_any_text_becomes_one_that_postgresql_holds(text: str) -> None:
    stored = storable_text(text + "\0\ud800")
    assert "\0" not in stored
    stored.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(JSON)
def test_headers_of_any_shape_are_read_and_noted_in(headers: object) -> None:
    text = orjson.dumps(headers)
    assert losses_of(text) >= 0
    message = Message(msg_id=1, payload=b"1", headers=text, enqueued_at=0, visible_at=0)
    message.note({"failures": 2})
    assert count_of(our_headers(message.headers), "failures") == 2
    if isinstance(headers, dict):
        rest = orjson.loads(message.headers or b"{}")
        assert {key: rest[key] for key in headers if key != "flowworker"} == {  # pyright: ignore[reportUnknownVariableType]
            key: value for key, value in headers.items() if key != "flowworker"  # pyright: ignore[reportUnknownVariableType]
        }  # fmt: skip


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_backoff_doubles_and_is_limited(base_delay: int, attempt: int) -> None:
    delay = backoff(QueueOptions(base_delay=base_delay), attempt)
    assert delay == min(base_delay * 2**attempt, LONGEST_BACKOFF) if attempt < 60 else delay <= LONGEST_BACKOFF
    assert 0 <= delay <= backoff(QueueOptions(base_delay=base_delay), attempt + 1)


@given(st.integers(1, 10), st.booleans())
async def test_a_job_has_exactly_as_many_attempts_as_allowed(attempt: int, final: bool) -> None:
    backend = MemoryBackend()
    await backend.add(one_step)
    source = await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(source)
    object.__setattr__(task, "attempt", attempt)
    object.__setattr__(task, "max_attempts", 5)
    plan = plan_for(task, failed(final=final), QueueOptions(), uuid4())
    assert isinstance(plan, Ending if final or attempt >= 5 else PutBack)


@given(st.floats(0, 1e9), st.text())
async def test_an_ended_job_records_how_it_ended(duration: float, error: str) -> None:
    backend = MemoryBackend()
    await backend.add(one_step)
    source = await backend.source(one_step)
    await backend.start("one_step")
    (task,) = await claim_all(source)
    worker_id = uuid4()
    done = plan_for(task, Completed(output=b'{"a": 1}', duration=duration), QueueOptions(), worker_id)
    ours = orjson.loads(done.ours)
    assert (ours["status"], ours["result"], ours["worker_id"]) == ("done", {"a": 1}, str(worker_id))
    outcome = failed(error, final=True)
    assert isinstance(outcome, Failed)
    assert orjson.loads(plan_for(task, outcome, QueueOptions(), worker_id).ours)["error"] == storable_text(error)


@given(st.dictionaries(st.integers(1, 100), st.integers(1, CRASH_BUDGET), max_size=30))
def test_tasks_that_were_lost_together_again_start_one_by_one(losses: dict[int, int]) -> None:
    found = waits(losses)
    assert found.keys() == losses.keys()
    for total in range(1, CRASH_BUDGET + 1):
        seconds = sorted(found[msg_id] for msg_id in losses if losses[msg_id] == total)
        assert not seconds or seconds[0] == 0.0
        if total == 1:
            assert set(seconds) <= {0.0}
        for earlier, later in itertools.pairwise(seconds):
            assert later - earlier >= APART if total > 1 and later < LONGEST_APART else later >= earlier


def test_the_last_to_start_again_is_the_first_when_they_were_lost_once_more() -> None:
    assert waits({1: 2, 2: 2, 3: 1}) == {1: 0.0, 2: 30.0, 3: 0.0}
    assert waits({1: 3, 2: 3, 3: 1}) == {1: 120.0, 2: 0.0, 3: 0.0}
