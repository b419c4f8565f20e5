"""Reads all subjects of one connection with one statement, and finds out which of them breaks it when it breaks.

A queue may be dropped or locked at any moment, and a role may lack a right on one table. When the statement for all
fails although the connection holds, each subject is read alone. Those that fail are kept apart until they can be read
again, so that the others go on with one statement.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from flowworker.database import probe
from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection
from flowworker.database.faults import is_unavailable
from flowworker.database.probe import Question, Sample, Samples
from flowworker.errors import UsageError
from flowworker_operator.database.faults import queue_per_step, statement_fault, unreadable_queue
from flowworker_operator.database.interpret import target_of
from flowworker_operator.database.model import Key, Subject
from flowworker_operator.database.schema import schema_fault
from flowworker_operator.domain.snapshot import Fault

COMMAND_TIMEOUT = 6.0
"""Seconds after which a statement without an answer, not even that it was cancelled, means a dead connection."""

MOST_AT_ONCE = 200
"""Subjects in one statement; more take another one."""

ISOLATION_BUDGET = 2.0
"""Seconds of one round that may go into reading subjects alone."""

COMMON_CAUSE = 3
"""Failures in a row after which the fault is not that of single subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """A subject's sample, with the times at which it was asked for and at which it had arrived."""

    sample: Sample
    sent: float
    answered: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """The database answers, but lacks what the subject needs."""

    fault: Fault
    sent: float


ReadResult: TypeAlias = Success | Unusable | Fault
Shape: TypeAlias = tuple[tuple[str, str, bool], ...]
"""What the text of a statement depends on: kind, slug, whether there is a queue."""

LAYOUT_CHANGED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidCachedStatementError)
"""Raised when a schema was installed, upgraded or dropped since the last read."""


class StandbyError(Exception):
    """The server takes no writes; another connection may lead to one that does."""


@dataclass(slots=True)
class Reader:
    """What is known of one session with a database. A new session needs a new reader."""

    connection: Connection
    features: Capabilities
    database: str
    clock: Callable[[], float]
    at_once: int = MOST_AT_ONCE
    """Subjects in one statement."""
    _layout: int | None = None
    _queues: dict[Key, bool] = field(default_factory=dict[Key, bool])
    _broken: dict[Key, None] = field(default_factory=dict[Key, None])
    """Kept apart, in the order in which they are tried alone."""
    _questions: dict[Shape, Question] = field(default_factory=dict[Shape, Question])
    _used: set[Shape] = field(default_factory=set[Shape])

    @classmethod
    async def begin(cls, connection: Connection, clock: Callable[[], float], at_once: int) -> "Reader":
        """Look at what this database is and can."""
        async with asyncio.timeout(COMMAND_TIMEOUT):
            return cls(connection, await detect(connection), await probe.identify(connection), clock, at_once)

    async def read(self, subjects: Sequence[Subject]) -> Mapping[Key, ReadResult]:
        """Read all subjects; every one of them has an outcome.

        Raises:
            StandbyError: the server takes no writes.
            asyncpg.PostgresError, OSError, asyncio.TimeoutError: the connection is lost, or the database unusable.
        """
        self._used.clear()
        outcomes = await self._judged(subjects)
        usable = [subject for subject in subjects if subject.key not in outcomes]
        whole = [subject for subject in usable if subject.key not in self._broken]
        known = {subject.key: subject for subject in usable}
        apart = [known[key] for key in self._broken if key in known]
        for group in (*_chunks(whole, self.at_once), *_chunks(apart, self.at_once)):
            outcomes |= await self._read_group(group)
        self._tidy(outcomes)
        return outcomes

    async def _judged(self, subjects: Sequence[Subject]) -> dict[Key, ReadResult]:
        sent = self.clock()
        if not self.features.writable or self._lacking(subjects):
            await self._look_again()
        if not self.features.writable:
            raise StandbyError
        return {key: Unusable(fault=fault, sent=sent) for key, fault in self._lacking(subjects).items()}

    def _lacking(self, subjects: Sequence[Subject]) -> Mapping[Key, Fault]:
        found = ((subject.key, schema_fault(self.features, subject.kind)) for subject in subjects)
        return {key: fault for key, fault in found if fault is not None}

    async def _look_again(self) -> None:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            self.features = await detect(self.connection)
        self._queues.clear()
        self._questions.clear()

    async def _read_group(self, group: Sequence[Subject]) -> dict[Key, ReadResult]:
        try:
            return await self._read_together(group)
        except (asyncpg.PostgresError, UsageError) as error:
            if self.connection.is_closed() or _is_general(error):
                raise
            if len(group) == 1:
                return {group[0].key: statement_fault(error, _name(group[0]))}
            return await self._isolate(group, error)

    async def _isolate(self, group: Sequence[Subject], error: Exception) -> dict[Key, ReadResult]:
        outcomes: dict[Key, ReadResult] = {}
        began = self.clock()
        for subject in group:
            outcomes |= await self._read_group([subject])
            hopeless = len(outcomes) == COMMON_CAUSE and all(isinstance(one, Fault) for one in outcomes.values())
            if hopeless or self.clock() - began > ISOLATION_BUDGET:
                break
        rest = [subject for subject in group if subject.key not in outcomes]
        return outcomes | {subject.key: statement_fault(error, _name(subject)) for subject in rest}

    async def _read_together(self, group: Sequence[Subject]) -> dict[Key, ReadResult]:
        try:
            answer = await self._ask(group)
        except LAYOUT_CHANGED:
            await self._look_again()
            answer = await self._ask(group)
        if await self._learn(group, answer.samples):
            answer = await self._ask(group)
            await self._learn(group, answer.samples)
        return {
            subject.key: _result(subject, sample, answer)
            for subject, sample in zip(group, answer.samples.samples, strict=True)
        }

    async def _ask(self, group: Sequence[Subject]) -> "TimedSamples":
        targets = [target_of(subject) for subject in group]
        shape = tuple((subject.kind, subject.slug, self._queues.get(subject.key, False)) for subject in group)
        question = self._questions.get(shape)
        if question is None:
            text = probe.statement(targets, [queue for _, _, queue in shape], self.features)
            question = await probe.prepare(self.connection, text, timeout=COMMAND_TIMEOUT)
            self._questions[shape] = question
        self._used.add(shape)
        sent = self.clock()
        samples = await question.ask(targets, timeout=COMMAND_TIMEOUT)
        answer = TimedSamples(samples=samples, sent=sent, answered=self.clock())
        if answer.samples.read_only:
            raise StandbyError
        return answer

    async def _learn(self, group: Sequence[Subject], found: Samples) -> bool:
        """Take in which queues there are and what the tables look like; whether that makes another statement."""
        if self._layout not in (None, found.layout):
            await self._look_again()
        queues = {
            subject.key: sample.queue_readable is True for subject, sample in zip(group, found.samples, strict=True)
        }
        changed = self._layout not in (None, found.layout) or any(
            self._queues.get(key, False) is not queue for key, queue in queues.items()
        )
        self._layout = found.layout
        self._queues |= queues
        return changed

    def _tidy(self, outcomes: Mapping[Key, ReadResult]) -> None:
        """Remember who has to be kept apart, the longest known last, and nothing of who has left."""
        failed = {key: None for key, outcome in outcomes.items() if isinstance(outcome, Fault)}
        tried = [key for key in self._broken if key in failed]
        self._broken = dict.fromkeys([*tried[1:], *tried[:1], *failed])
        self._queues = {key: queue for key, queue in self._queues.items() if key in outcomes}
        self._questions = {shape: self._questions[shape] for shape in self._used if shape in self._questions}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedSamples:
    """The answer to one statement."""

    samples: Samples
    sent: float
    answered: float


def _result(subject: Subject, sample: Sample, answer: TimedSamples) -> ReadResult:
    if sample.queue_per_step:
        return Unusable(fault=queue_per_step(_name(subject)), sent=answer.sent)
    if sample.queue_readable is False:
        return unreadable_queue(_name(subject))
    return Success(sample=sample, sent=answer.sent, answered=answer.answered)


def _is_general(error: Exception) -> bool:
    """An error that says nothing about a single subject. A cancelled statement may have been slow for one of them."""
    return is_unavailable(error) and not isinstance(error, asyncpg.QueryCanceledError)


def _chunks(subjects: Sequence[Subject], size: int) -> Iterable[Sequence[Subject]]:
    return (subjects[start : start + size] for start in range(0, len(subjects), size))


def _name(subject: Subject) -> str:
    return f"{subject.kind} {subject.slug!r}"
