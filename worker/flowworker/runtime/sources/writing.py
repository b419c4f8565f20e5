"""Writing a batch of results so that one the database cannot take never holds up the others.

The batch is tried as a whole. Refused, it is repeated row by row; a row that is refused alone goes down a ladder: a
completed task whose output cannot be stored becomes a failed attempt, a failed attempt that cannot be stored becomes
a failure for good, and what cannot be written even then is reported with the database's words.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

import stamina

from flowworker.database.connection import describe
from flowworker.database.faults import CONFLICTS, REFUSED_VALUES
from flowworker.database.records import Completed, Failed, FailureKind, Outcome, Receipt, Released, TaskResult, Verdict

CONFLICT_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result, what is to be written for it, and its place in the batch the runtime gave."""

    position: int
    result: TaskResult
    outcome: Outcome


Write: TypeAlias = Callable[[Sequence[Entry]], Awaitable[Sequence[Receipt]]]
"""Writes entries of one kind of outcome and returns their receipts in the same order."""


async def write_all(results: Sequence[TaskResult], write: Write) -> list[Receipt]:
    """Write every result, one batch per kind of outcome; receipts in the order given."""
    entries = [Entry(position=n, result=result, outcome=result.outcome) for n, result in enumerate(results)]
    receipts: dict[int, Receipt] = {}
    for batch in _by_kind(entries):
        written = await _write(batch, write)
        receipts.update(zip((entry.position for entry in batch), written, strict=True))
    return [receipts[position] for position in range(len(results))]


def _by_kind(entries: Sequence[Entry]) -> list[list[Entry]]:
    batches: dict[type[Outcome], list[Entry]] = {Completed: [], Failed: [], Released: []}
    for entry in entries:
        batches[type(entry.outcome)].append(entry)
    return [batch for batch in batches.values() if batch]


async def _write(batch: Sequence[Entry], write: Write) -> Sequence[Receipt]:
    try:
        return await without_conflict(lambda: write(batch))
    except REFUSED_VALUES as error:
        if len(batch) == 1:
            return [await _write_lower(batch[0], write, error)]
    return [receipt for entry in batch for receipt in await _write([entry], write)]


async def _write_lower(entry: Entry, write: Write, error: Exception) -> Receipt:
    refusal = describe(error)
    lower = _one_rung_down(entry.outcome, refusal)
    if lower is None:
        return Receipt(result=entry.result, verdict=Verdict.SUPERSEDED, error=f"the database refused it: {refusal}")
    (receipt,) = await _write([replace(entry, outcome=lower)], write)
    return replace(receipt, error=receipt.error or f"the database refused it: {refusal}")


def _one_rung_down(outcome: Outcome, refusal: str) -> Outcome | None:
    match outcome:
        case Completed(duration=duration):
            message = f"the database refused the output: {refusal}"
            return Failed(kind=FailureKind.OUTPUT, message=message, stacktrace=None, duration=duration)
        case Failed(final=False):
            message = f"{outcome.message}\n(final, because the database refused another attempt: {refusal})"
            return replace(outcome, message=message, stacktrace=None, retry_after=None, final=True)
        case Failed() | Released():
            return None
        case _:
            assert_never(outcome)


async def without_conflict(work: Callable[[], Awaitable[Sequence[Receipt]]]) -> Sequence[Receipt]:
    """Repeat work that lost a deadlock or a serialization conflict, after a short random wait."""
    with suppress(*CONFLICTS):  # nearly always enough, and the machinery below costs more than a small batch
        return await work()
    async for attempt in stamina.retry_context(
        on=CONFLICTS, attempts=CONFLICT_ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.5, wait_jitter=0.02
    ):
        with attempt:
            return await work()
    raise AssertionError("unreachable: the last attempt raises")
