"""Writing a batch of results so that one the database cannot take never holds up the others.

A batch is tried as a whole. What fails is halved until the culprit is alone, which takes about `2 log2 n` statements,
and what succeeded stays written. What waits for a lock is found at once: the statement is repeated with SKIP LOCKED and
leaves out the locked rows. Where a statement takes too long, the heaviest results are taken out first. A value that is
refused alone goes down a ladder (`flowworker.runtime.sources.ladder`). What stays unwritten is handed back with the
reason, for a lane that has time.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import asyncpg

from flowworker.database.connection import describe
from flowworker.database.faults import CONFLICTS, REFUSED_VALUES, TIMED_OUT, is_unavailable
from flowworker.database.records import Completed, Failed, Outcome, Receipt, Released, RunEnd, TaskResult, Verdict
from flowworker.errors import FlowWorkerError
from flowworker.runtime.source import Finish, Trouble, Unsettled, lock_group, weight
from flowworker.runtime.sources.ladder import one_rung_down, refused

T = TypeVar("T")

MOST_MEETINGS = 5
"""Tries of a batch that meets other transactions (a deadlock, a serialization conflict)."""

MEETING_PAUSE = 0.01
"""Seconds; doubled with each of them, and jittered."""

MOST_WAITS = 3
"""Statements of a batch that run into a limit of time. Each keeps the connection from the process's other workloads."""

MOST_FRUITLESS = 8
"""Statements in a row that write nothing because of an error of a kind we do not know: then it is not one result's
fault. Where it is, halving alternates with success."""

UNENCODABLE = (TypeError, ValueError, OverflowError)
"""What encoding a value raises on our side, orjson's errors included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result, what is to be written for it, and its place in the batch the runtime gave."""

    position: int
    result: TaskResult
    outcome: Outcome
    refusal: str | None = None
    """The database's words about a better outcome, which `outcome` stands in for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries for one try."""

    entries: Sequence[Entry]
    skip_locked: bool = False
    meetings: int = 0
    """Conflicts with other transactions so far."""
    waits: int = 0
    """Limits of time run into so far."""


@dataclass(slots=True, kw_only=True)
class Written:
    """What one try has made of its entries."""

    receipts: dict[int, Receipt] = field(default_factory=dict[int, Receipt])
    """By position."""
    locked: list[Entry] = field(default_factory=list[Entry])
    """Still this worker's, and not written."""
    failed: list[tuple[Sequence[Entry], Exception]] = field(default_factory=list[tuple[Sequence[Entry], Exception]])
    ended_runs: Sequence[RunEnd] = ()


Write: TypeAlias = Callable[[Sequence[Entry]], Awaitable[Sequence[Receipt | None]]]
"""Writes entries of one kind of outcome in one transaction. Answers in the same order, None for what stays ours."""

Try: TypeAlias = Callable[[Batch], Awaitable[Written]]
"""Uses the connection once; between two tries others may."""


async def write_kinds(entries: Sequence[Entry], write: Write) -> Written:
    """Write entries, one transaction for each kind of outcome; an error of one kind does not keep another back.

    Raises:
        Exception: the connection is lost.
    """
    written = Written()
    for kind in _by_kind(entries):
        try:
            answers = await write(kind)
        except Exception as error:
            if is_unavailable(error) or isinstance(error, FlowWorkerError):
                raise
            written.failed.append((kind, error))
            continue
        for entry, receipt in zip(kind, answers, strict=True):
            if receipt is None:
                written.locked.append(entry)
            else:
                written.receipts[entry.position] = receipt
    return written


async def write_all(
    results: Sequence[TaskResult], try_once: Try, *, patient: bool, randomness: Callable[[], float] = random.random
) -> Finish:
    """Write what can be written; receipts in the order given.

    Args:
        results: what to write.
        try_once: makes one try.
        patient: wait for locks in line and hand back what the limits do not suffice for, instead of looking for the
            culprit: the results are known to be in trouble.
        randomness: jitter of the pause after a conflict.

    Raises:
        DatabaseUnavailableError, AccessError, UsageError: no connection, before anything was settled.
    """
    work = _Work(try_once=try_once, patient=patient, randomness=randomness)
    work.todo.append(
        Batch(entries=[Entry(position=n, result=one, outcome=one.outcome) for n, one in enumerate(results)])
    )
    await work.do()
    return Finish(
        receipts=[work.receipts[position] for position in sorted(work.receipts)],
        ended_runs=list({end.run_id: end for end in work.ended_runs}.values()),
        unsettled=[work.unsettled[position] for position in sorted(work.unsettled)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Try the same entries once more."""

    batch: Batch
    pause: float = 0.0
    """Seconds, before jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halve:
    """Try one part, then the other."""

    parts: Sequence[Sequence[Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lower:
    """Write the next best outcome for this entry."""

    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBack:
    """Leave the entries for a lane that has time, and try the rest again."""

    trouble: Trouble
    entries: Sequence[Entry]
    rest: Sequence[Entry] = ()


Decision: TypeAlias = Repeat | Halve | Lower | HandBack


def decide(batch: Batch, error: Exception, *, patient: bool, fruitless: int) -> Decision:
    """What to do about entries of one kind whose statement failed.

    Args:
        batch: what was tried.
        error: what was raised; the connection is good.
        patient: see `write_all`.
        fruitless: statements in a row that wrote nothing, this one included.
    """
    entries = batch.entries
    if isinstance(error, CONFLICTS) and batch.meetings + 1 < MOST_MEETINGS:
        pause = MEETING_PAUSE * 2.0**batch.meetings if batch.meetings else 0.0
        return Repeat(batch=replace(batch, meetings=batch.meetings + 1), pause=pause)
    if isinstance(error, (*CONFLICTS, asyncpg.LockNotAvailableError)):
        return _about_locks(batch, patient=patient)
    if isinstance(error, TIMED_OUT):
        return _about_time(batch, patient=patient)
    if isinstance(error, (*REFUSED_VALUES, *UNENCODABLE)):
        return Lower(entry=entries[0]) if len(entries) == 1 else Halve(parts=_halves(entries))
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return HandBack(trouble=Trouble.FORBIDDEN, entries=entries)
    if len(entries) > 1 and fruitless < MOST_FRUITLESS:
        return Halve(parts=_halves(entries))
    return HandBack(trouble=Trouble.UNKNOWN, entries=entries)


def _about_locks(batch: Batch, *, patient: bool) -> Decision:
    """Results of one run share its lock, so they are not torn apart."""
    if not patient and not batch.skip_locked:
        return Repeat(batch=replace(batch, skip_locked=True, waits=batch.waits + 1))
    groups = _by_group(batch.entries)
    if patient or len(groups) == 1 or batch.waits + 1 >= MOST_WAITS:
        return HandBack(trouble=Trouble.LOCKED, entries=batch.entries)
    return Halve(parts=[[entry for group in half for entry in group] for half in _halves(groups)])


def _about_time(batch: Batch, *, patient: bool) -> Decision:
    groups = sorted(_by_group(batch.entries), key=_weight_of)
    if patient or len(groups) == 1 or batch.waits + 1 >= MOST_WAITS:
        return HandBack(trouble=Trouble.SLOW, entries=batch.entries)
    return HandBack(trouble=Trouble.SLOW, entries=groups[-1], rest=[entry for group in groups[:-1] for entry in group])


@dataclass(slots=True, kw_only=True)
class _Work:
    """Applies the decisions. Breadth first, so that one culprit never makes many failures in a row."""

    try_once: Try
    patient: bool
    randomness: Callable[[], float]
    todo: deque[Batch] = field(default_factory=deque[Batch])
    receipts: dict[int, Receipt] = field(default_factory=dict[int, Receipt])
    unsettled: dict[int, Unsettled] = field(default_factory=dict[int, Unsettled])
    ended_runs: list[RunEnd] = field(default_factory=list[RunEnd])
    fruitless: int = 0

    async def do(self) -> None:
        while self.todo:
            batch = self.todo.popleft()
            try:
                written = await self.try_once(batch)
            except FlowWorkerError as error:
                if not self.receipts and not self.unsettled:
                    raise
                left = [entry for rest in (batch, *self.todo) for entry in rest.entries]
                self._hand_back(left, Trouble.UNAVAILABLE, str(error))
                return
            await self._follow(batch, written)

    async def _follow(self, batch: Batch, written: Written) -> None:
        by_position = {entry.position: entry for entry in batch.entries}
        for position, receipt in written.receipts.items():
            refusal = by_position[position].refusal
            self.receipts[position] = replace(receipt, error=receipt.error or refusal) if refusal else receipt
        self.ended_runs.extend(written.ended_runs)
        self._hand_back(written.locked, Trouble.LOCKED, "its rows are locked by another transaction")
        for entries, error in written.failed:
            self.fruitless = 0 if written.receipts else self.fruitless + 1
            await self._apply(replace(batch, entries=entries), error)
        if not written.failed:
            self.fruitless = 0

    async def _apply(self, batch: Batch, error: Exception) -> None:
        match decide(batch, error, patient=self.patient, fruitless=self.fruitless):
            case Repeat(batch=again, pause=pause):
                if pause:
                    await asyncio.sleep(pause * (0.5 + self.randomness()))
                self.todo.append(again)
            case Halve(parts=parts):
                self.todo.extend(
                    replace(batch, entries=part, meetings=0, waits=batch.waits + isinstance(error, TIMED_OUT))
                    for part in parts
                )
            case Lower(entry=entry):
                self._lower(entry, error)
            case HandBack(trouble=trouble, entries=entries, rest=rest):
                self._hand_back(entries, trouble, describe(error), alone=len(batch.entries) == 1)
                if rest:
                    self.todo.append(replace(batch, entries=rest, waits=batch.waits + 1))

    def _lower(self, entry: Entry, error: Exception) -> None:
        words = describe(error)
        lower = one_rung_down(entry.outcome, words)
        if lower is None:
            receipt = Receipt(result=entry.result, verdict=Verdict.UNWRITTEN, error=refused(words))
            self.receipts[entry.position] = receipt
        else:
            refusal = entry.refusal or refused(words)
            self.todo.append(Batch(entries=[replace(entry, outcome=lower, refusal=refusal)]))

    def _hand_back(self, entries: Sequence[Entry], trouble: Trouble, error: str, *, alone: bool = False) -> None:
        for entry in entries:
            self.unsettled[entry.position] = Unsettled(result=entry.result, trouble=trouble, error=error, alone=alone)


def _by_kind(entries: Iterable[Entry]) -> list[list[Entry]]:
    batches: dict[type[Outcome], list[Entry]] = {Completed: [], Failed: [], Released: []}
    for entry in entries:
        batches[type(entry.outcome)].append(entry)
    return [batch for batch in batches.values() if batch]


def _by_group(entries: Iterable[Entry]) -> list[list[Entry]]:
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(lock_group(entry.result.task), []).append(entry)
    return list(groups.values())


def _weight_of(entries: Iterable[Entry]) -> int:
    return sum(weight(entry.result) for entry in entries)


def _halves(sequence: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    middle = len(sequence) // 2
    return sequence[:middle], sequence[middle:]
