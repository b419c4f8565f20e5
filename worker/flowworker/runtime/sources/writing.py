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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar
from uuid import UUID

import asyncpg

from flowworker.database.connection import Connection, describe
from flowworker.database.faults import CONFLICTS, REFUSED_VALUES, TIMED_OUT, is_unavailable
from flowworker.database.link import Limits, Links
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

LOCKED = "its rows are locked by another transaction"

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
    """What one try has made of its entries; both by position."""

    receipts: dict[int, Receipt] = field(default_factory=dict[int, Receipt])
    unsettled: dict[int, Unsettled] = field(default_factory=dict[int, Unsettled])
    """Still this worker's, and not written: their rows are locked."""
    failed: list[tuple[Sequence[Entry], Exception]] = field(default_factory=list[tuple[Sequence[Entry], Exception]])
    ended_runs: Sequence[RunEnd] = ()


class Writer(Protocol):
    """The statements of one try, on one connection."""

    async def write(self, entries: Sequence[Entry]) -> Sequence[Receipt | None]:
        """Write entries of one kind of outcome in one transaction.

        Returns:
            The answers in the same order, None for what stays ours.
        """
        ...

    async def ended_runs(self) -> Sequence[RunEnd]:
        """Runs that what was written has brought to their end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLane:
    """On which connection the results of one `Source.finish` are written, whose arguments these are.

    The claim of another flow may have the connection aside for two minutes. Results go before other claims that wait
    for it, and those that only a lock kept back do not wait at all: the connection of the finishes looks whether it
    is free, with SKIP LOCKED, which takes no longer than any other write.
    """

    links: Links
    make_writer: Callable[[Connection, bool], Writer]
    """Takes the connection, and whether to leave out what is locked."""
    patience: Limits | None
    waits_for_lock: bool

    @property
    def patient(self) -> bool:
        """Whether the results are known to be in trouble."""
        return self.patience is not None

    async def try_once(self, batch: Batch) -> Written:
        """Use a connection once; between two tries others may."""
        if self.patience is None:
            return await self.links.on_finish(lambda connection: self._write(connection, batch))
        if self.waits_for_lock and self.links.aside.busy:
            look = replace(batch, skip_locked=True)
            return await self.links.finish.run(lambda connection: self._write(connection, look))
        return await self.links.aside.run(
            lambda connection: self._write(connection, batch), limits=self.patience, urgent=True
        )

    async def _write(self, connection: Connection, batch: Batch) -> Written:
        return await write_kinds(batch.entries, self.make_writer(connection, batch.skip_locked))


async def write_all(
    results: Sequence[TaskResult], try_once: Callable[[Batch], Awaitable[Written]], *, patient: bool,
    randomness: Callable[[], float] = random.random,
) -> Finish:  # fmt: skip
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
    receipts: dict[int, Receipt] = {}
    unsettled: dict[int, Unsettled] = {}
    ended_runs: dict[UUID, RunEnd] = {}
    fruitless = 0
    todo = deque([Batch(entries=[Entry(position=n, result=one, outcome=one.outcome) for n, one in enumerate(results)])])
    while todo:  # breadth first, so that one culprit never makes many failures in a row
        batch = todo.popleft()
        try:
            written = await try_once(batch)
        except FlowWorkerError as error:
            if not receipts and not unsettled:
                raise
            left = [entry for rest in (batch, *todo) for entry in rest.entries]
            unsettled.update(_handed_back(left, Trouble.UNAVAILABLE, str(error)))
            break
        receipts.update(written.receipts)
        unsettled.update(written.unsettled)
        ended_runs.update({end.run_id: end for end in written.ended_runs})
        fruitless = fruitless if written.failed and not written.receipts else 0
        for entries, error in written.failed:
            fruitless += not written.receipts
            decision = decide(replace(batch, entries=entries), error, patient=patient, fruitless=fruitless)
            receipts.update(decision.receipts)
            unsettled.update(decision.unsettled)
            if decision.pause:
                await asyncio.sleep(decision.pause * (0.5 + randomness()))
            todo.extend(decision.rest)
    return Finish(
        receipts=[receipts[position] for position in sorted(receipts)],
        ended_runs=list(ended_runs.values()),
        unsettled=[unsettled[position] for position in sorted(unsettled)],
    )


async def write_kinds(entries: Sequence[Entry], writer: Writer) -> Written:
    """Write entries, one transaction for each kind of outcome; an error of one kind does not keep another back.

    Raises:
        Exception: the connection is lost.
    """
    written = Written()
    for kind in _by_kind(entries):
        try:
            answers = await writer.write(kind)
        except Exception as error:
            if is_unavailable(error) or isinstance(error, FlowWorkerError):
                raise
            written.failed.append((kind, error))
            continue
        for entry, receipt in zip(kind, answers, strict=True):
            if receipt is None:
                written.unsettled.update(_handed_back([entry], Trouble.LOCKED, LOCKED))
            elif entry.refusal is None:
                written.receipts[entry.position] = receipt
            else:
                written.receipts[entry.position] = replace(receipt, error=receipt.error or entry.refusal)
    written.ended_runs = await writer.ended_runs()
    return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from the failure of a statement; what is settled by it by position."""

    rest: Sequence[Batch] = ()
    """To be tried next."""
    pause: float = 0.0
    """Seconds before that, without jitter."""
    unsettled: Mapping[int, Unsettled] = field(default_factory=dict[int, Unsettled])
    """Left for a lane that has time."""
    receipts: Mapping[int, Receipt] = field(default_factory=dict[int, Receipt])


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
        return Decision(rest=[replace(batch, meetings=batch.meetings + 1)], pause=pause)
    if isinstance(error, (*CONFLICTS, asyncpg.LockNotAvailableError)):
        return _about_locks(batch, error, patient=patient)
    if isinstance(error, TIMED_OUT):
        return _about_time(batch, error, patient=patient)
    if isinstance(error, (*REFUSED_VALUES, *UNENCODABLE)):
        return _lower(entries[0], describe(error)) if len(entries) == 1 else _halve(batch, _halves(entries))
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return _hand_back(batch, Trouble.FORBIDDEN, error)
    if len(entries) > 1 and fruitless < MOST_FRUITLESS:
        return _halve(batch, _halves(entries))
    return _hand_back(batch, Trouble.UNKNOWN, error)


def _about_locks(batch: Batch, error: Exception, *, patient: bool) -> Decision:
    """Results of one run share its lock, so they are not torn apart."""
    if not patient and not batch.skip_locked:
        return Decision(rest=[replace(batch, skip_locked=True, waits=batch.waits + 1)])
    groups = _by_group(batch.entries)
    if patient or len(groups) == 1 or batch.waits + 1 >= MOST_WAITS:
        return _hand_back(batch, Trouble.LOCKED, error)
    halves = [[entry for group in half for entry in group] for half in _halves(groups)]
    return _halve(batch, halves, waited=isinstance(error, TIMED_OUT))


def _about_time(batch: Batch, error: Exception, *, patient: bool) -> Decision:
    """The heaviest results go first: most likely it is their fault."""
    groups = sorted(_by_group(batch.entries), key=_weight_of)
    if patient or len(groups) == 1 or batch.waits + 1 >= MOST_WAITS:
        return _hand_back(batch, Trouble.SLOW, error)
    rest = [entry for group in groups[:-1] for entry in group]
    return Decision(
        unsettled=_handed_back(groups[-1], Trouble.SLOW, describe(error)),
        rest=[replace(batch, entries=rest, waits=batch.waits + 1)],
    )


def _halve(batch: Batch, halves: Iterable[Sequence[Entry]], *, waited: bool = False) -> Decision:
    return Decision(rest=[replace(batch, entries=half, meetings=0, waits=batch.waits + waited) for half in halves])


def _hand_back(batch: Batch, trouble: Trouble, error: Exception) -> Decision:
    alone = len(batch.entries) == 1
    return Decision(unsettled=_handed_back(batch.entries, trouble, describe(error), alone=alone))


def _lower(entry: Entry, words: str) -> Decision:
    """Write the next best outcome; where there is none, nothing."""
    lower = one_rung_down(entry.outcome, words)
    if lower is None:
        receipt = Receipt(result=entry.result, verdict=Verdict.UNWRITTEN, error=refused(words))
        return Decision(receipts={entry.position: receipt})
    refusal = entry.refusal or refused(words)
    return Decision(rest=[Batch(entries=[replace(entry, outcome=lower, refusal=refusal)])])


def _handed_back(
    entries: Iterable[Entry], trouble: Trouble, error: str, *, alone: bool = False
) -> dict[int, Unsettled]:
    return {
        entry.position: Unsettled(result=entry.result, trouble=trouble, error=error, alone=alone) for entry in entries
    }


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
