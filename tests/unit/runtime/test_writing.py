"""What is written first, halved, lowered and handed back, with a database made of rules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import make_task, receipt_of

from flowworker.database.records import (
    Completed,
    Failed,
    FailureKind,
    Outcome,
    Receipt,
    Released,
    RunEnd,
    TaskResult,
    Verdict,
)
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.source import Finish, Trouble
from flowworker.runtime.sources.ladder import NO_WORDS, UNWRITABLE_WAIT, one_rung_down
from flowworker.runtime.sources.writing import Batch, Entry, Written, write_all, write_kinds

REFUSED = asyncpg.InvalidTextRepresentationError("invalid input syntax for type json")
LOCKED = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
SLOW = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
MENDED = (asyncpg.DataError, TypeError, UnicodeEncodeError)
"""What a value meets, and the failure that is written instead of it does not."""
ODD = asyncpg.PostgresError("an error of a class of its own")


@dataclass
class Rules:
    """Which results, by message, meet which error; every statement is counted."""

    errors: dict[int, Exception] = field(default_factory=dict[int, Exception])
    down_after: float = math.inf
    statements: list[list[int]] = field(default_factory=list[list[int]])

    async def try_once(self, batch: Batch) -> Written:
        if len(self.statements) >= self.down_after:
            raise DatabaseUnavailableError("down")
        return await write_kinds(batch.entries, RuledWriter(self, skip_locked=batch.skip_locked))

    async def write(self, results: Sequence[TaskResult], *, patient: bool = False) -> Finish:
        return await write_all(results, self.try_once, patient=patient, randomness=lambda: 0.0)


@dataclass
class RuledWriter:
    """One try."""

    rules: Rules
    skip_locked: bool

    async def write(self, entries: Sequence[Entry]) -> list[Receipt | None]:
        self.rules.statements.append([entry.result.task.msg_id for entry in entries])
        met = [(entry, self.rules.errors.get(entry.result.task.msg_id)) for entry in entries]
        for entry, error in met:
            skipped = error is LOCKED and self.skip_locked
            mended = isinstance(error, MENDED) and isinstance(entry.outcome, Failed)
            if error is not None and not skipped and not mended:
                raise error
        return [
            None
            if error is LOCKED and self.skip_locked
            else receipt_of(TaskResult(task=entry.result.task, outcome=entry.outcome))
            for entry, error in met
        ]

    async def ended_runs(self) -> Sequence[RunEnd]:
        return ()


def results_of(count: int, *, runs: int = 0) -> list[TaskResult]:
    """Results, each of its own run or spread over some."""
    return [
        TaskResult(
            task=make_task(n, run_id=UUID(int=n % runs if runs else n)), outcome=Completed(output=b"1", duration=0.1)
        )
        for n in range(count)
    ]


def written(finish: Finish) -> set[int]:
    return {receipt.result.task.msg_id for receipt in finish.receipts}


def left(finish: Finish) -> dict[int, Trouble]:
    return {one.result.task.msg_id: one.trouble for one in finish.unsettled}


async def test_a_good_batch_is_one_statement() -> None:
    rules = Rules()
    finish = await rules.write(results_of(100))
    assert (len(finish.receipts), finish.unsettled, len(rules.statements)) == (100, [], 1)


@given(st.integers(1, 200), st.data())
async def test_every_good_result_is_written_and_culprits_are_found_by_halving(count: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    rules = Rules(dict.fromkeys(culprits, REFUSED))
    finish = await rules.write(results_of(count))
    assert written(finish) == set(range(count))
    verdicts = {receipt.result.task.msg_id: receipt.verdict for receipt in finish.receipts}
    assert {n for n, verdict in verdicts.items() if verdict is Verdict.RETRYING} == culprits
    assert len(rules.statements) <= 1 + len(culprits) * (2 * math.ceil(math.log2(count)) + 1)


@given(st.integers(2, 100), st.data())
async def test_of_an_unknown_error_one_culprit_is_found_and_handed_back(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    rules = Rules({culprit: ODD})
    finish = await rules.write(results_of(count))
    assert written(finish) == set(range(count)) - {culprit}
    assert left(finish) == {culprit: Trouble.UNKNOWN}
    assert finish.unsettled[0].alone


async def test_an_error_that_meets_every_result_is_not_looked_for_in_each() -> None:
    rules = Rules(dict.fromkeys(range(100), ODD))
    finish = await rules.write(results_of(100))
    assert len(left(finish)) == 100
    assert len(rules.statements) < 25


@given(st.integers(1, 50), st.integers(1, 10), st.data())
async def test_locked_runs_are_found_in_one_more_statement(count: int, runs: int, data: st.DataObject) -> None:
    held = data.draw(st.sets(st.integers(0, runs - 1)))
    culprits = {n for n in range(count) if n % runs in held}
    rules = Rules(dict.fromkeys(culprits, LOCKED))
    finish = await rules.write(results_of(count, runs=runs))
    assert (written(finish), left(finish)) == (set(range(count)) - culprits, dict.fromkeys(culprits, Trouble.LOCKED))
    assert len(rules.statements) <= 2


async def test_where_time_runs_out_the_heaviest_run_is_taken_out_first() -> None:
    results = results_of(20)
    results[13] = TaskResult(task=results[13].task, outcome=Completed(output=b"1" * 1000, duration=0.1))
    rules = Rules({13: SLOW})
    finish = await rules.write(results)
    assert (written(finish), left(finish)) == (set(range(20)) - {13}, {13: Trouble.SLOW})
    assert len(rules.statements) == 2
    assert not finish.unsettled[0].alone


async def test_where_everything_is_too_slow_the_fast_lane_is_soon_free() -> None:
    rules = Rules(dict.fromkeys(range(20), SLOW))
    assert len(left(await rules.write(results_of(20)))) == 20
    assert len(rules.statements) == 3


async def test_the_patient_do_not_look_for_a_culprit_of_time() -> None:
    for error, trouble in ((LOCKED, Trouble.LOCKED), (SLOW, Trouble.SLOW)):
        rules = Rules({1: error})
        finish = await rules.write(results_of(3, runs=1), patient=True)
        assert left(finish) == dict.fromkeys(range(3), trouble)
        assert len(rules.statements) == 1


async def test_a_conflict_is_repeated_and_then_handed_back() -> None:
    rules = Rules({0: asyncpg.DeadlockDetectedError("deadlock detected")})
    finish = await rules.write(results_of(1))
    assert left(finish) == {0: Trouble.LOCKED}
    assert len(rules.statements) == 6  # one of them with SKIP LOCKED


async def test_an_error_of_one_kind_of_outcome_keeps_the_others_not_back() -> None:
    results = results_of(3)
    failed = Failed(kind=FailureKind.EXCEPTION, message="x", stacktrace=None, duration=0.1)
    results[1] = TaskResult(task=results[1].task, outcome=failed)
    results[2] = TaskResult(task=results[2].task, outcome=Released(reason="stop"))
    finish = await Rules({0: ODD}).write(results)
    assert (written(finish), left(finish)) == ({1, 2}, {0: Trouble.UNKNOWN})


async def test_what_was_settled_before_the_connection_was_lost_stays_so() -> None:
    rules = Rules({3: REFUSED}, down_after=2)
    finish = await rules.write(results_of(4))
    assert written(finish) == {0, 1}
    assert left(finish) == {2: Trouble.UNAVAILABLE, 3: Trouble.UNAVAILABLE}
    with pytest.raises(DatabaseUnavailableError):
        await Rules(down_after=0).write(results_of(1))


@pytest.mark.parametrize(
    "error", [TypeError("Integer exceeds 64-bit range"), UnicodeEncodeError("utf-8", "x", 0, 1, "y")]
)
async def test_what_our_side_cannot_encode_fails_alone(error: Exception) -> None:
    finish = await Rules({1: error}).write(results_of(3))
    assert [receipt.verdict for receipt in finish.receipts] == [
        Verdict.COMPLETED, Verdict.RETRYING, Verdict.COMPLETED,
    ]  # fmt: skip


def rungs(outcome: Outcome) -> list[Outcome]:
    found: list[Outcome] = []
    while (lower := one_rung_down(found[-1] if found else outcome, "no “room”")) is not None:
        found.append(lower)
    return found


@given(
    st.builds(
        Failed, kind=st.sampled_from(FailureKind), message=st.text(), stacktrace=st.none() | st.text(),
        duration=st.just(0.1), retry_after=st.none() | st.just(5.0), final=st.booleans(),
    )
    | st.just(Completed(output=b"1", duration=0.1))
)  # fmt: skip
def test_the_ladder_ends_and_its_last_rungs_are_held_by_every_encoding(outcome: Completed | Failed) -> None:
    found = rungs(outcome)
    assert 2 <= len(found) <= 6
    *_, failed, last = found
    assert isinstance(failed, Failed)
    assert (failed.message, failed.stacktrace, failed.final) == (NO_WORDS, None, True)
    assert isinstance(last, Released)
    assert (last.wait, last.reason.isascii(), NO_WORDS.isascii()) == (UNWRITABLE_WAIT, True, True)


def test_a_text_that_cannot_be_stored_costs_no_further_attempt_of_the_task() -> None:
    failed = Failed(kind=FailureKind.EXCEPTION, message="ä", stacktrace="ö", duration=0.1, retry_after=5.0)
    assert rungs(failed)[0] == Failed(
        kind=FailureKind.EXCEPTION, message="\\xe4", stacktrace="\\xf6", duration=0.1, retry_after=5.0
    )


def test_what_goes_back_has_no_lesser_form() -> None:
    assert rungs(Released(reason="stop")) == []
