"""From what the database answered to a reading, and whether a reading says anything new. Pure."""

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from flowworker.database.probe import Sample, Target, WorkerRow
from flowworker.database.records import SourceKind
from flowworker_operator.database.liveness import ENDED
from flowworker_operator.database.model import Reading, Subject
from flowworker_operator.domain.snapshot import Demand, DrainRequest, Fault, Report, WorkerState
from flowworker_operator.domain.words import shown

LONGEST_ERROR = 512

RESULTS_WAIT_AFTER = 30.0
"""Seconds after which a result that is not written is worth a remark: a write takes milliseconds, a retry seconds."""

CLAIMS_WAIT_AFTER = 30.0
"""The same for a claim that is wanted: one takes milliseconds, a database that restarts some seconds."""


def target_of(subject: Subject) -> Target:
    """The subject in the words of the database."""
    return Target(
        kind=SourceKind(subject.kind),
        slug=subject.slug,
        cap=subject.cap,
        namespace=subject.key.namespace,
        flowworker=subject.key.name,
    )


def reading_of(subject: Subject, sample: Sample, lost: Collection[UUID], *, tick: float, database: str) -> Reading:
    """The reading of one subject.

    Args:
        subject: what was asked for.
        sample: the answer.
        lost: workers that are dead, whatever they last reported.
        tick: when the question was sent.
        database: which database answered.
    """
    return Reading(
        tick=tick,
        demand=_demand(subject, sample, lost),
        longest_timeout=sample.longest_timeout,
        option_changes=sample.option_changes,
        reports={pod: _report(row, lost) for pod, row in _newest(sample.workers).items()},
        drains={pod: DrainRequest(age=max(age, 0.0)) for pod, age in sample.drains.items()},
        database=database,
    )


def unusable(fault: Fault, *, tick: float, database: str) -> Reading:
    """The reading of a database that lacks what is needed: it answers, and nothing is known."""
    return Reading(tick=tick, demand=None, schema_fault=fault, database=database)


def says_the_same(one: Reading | None, other: Reading | None) -> bool:
    """Whether two readings differ only in what passes by itself."""
    return _essence(one) == _essence(other)


def _essence(reading: Reading | None) -> object:
    if reading is None:
        return None
    demand = reading.demand
    counts = demand and (
        demand.startable, demand.in_flight, demand.stalled, demand.delayed, demand.depth, demand.oldest_startable_at,
        demand.due_in is None,
    )  # fmt: skip
    facts = (reading.longest_timeout, reading.option_changes, reading.schema_fault, reading.database)
    return counts, facts, reading.reports, frozenset(reading.drains)


def _demand(subject: Subject, sample: Sample, lost: Collection[UUID]) -> Demand:
    reported = sum(
        row.in_flight
        for row in sample.workers
        if (row.kind, row.slug) == (subject.kind, subject.slug) and row.state not in ENDED and row.worker_id not in lost
    )
    # Where not all started tasks could be looked at, the workers' own word is the better one.
    trust_reports = subject.kind == "queue" or sample.in_flight_cut
    in_flight = max(sample.in_flight, reported) if trust_reports else sample.in_flight
    return Demand(
        startable=sample.startable,
        in_flight=min(in_flight, subject.cap),
        stalled=sample.stalled,
        delayed=sample.delayed,
        depth=sample.depth,
        oldest_startable_at=sample.oldest_startable_at,
        due_in=None if sample.due_in is None else max(sample.due_in, 0.0),
    )


def _newest(rows: Iterable[WorkerRow]) -> Mapping[str, WorkerRow]:
    """The newest incarnation in each pod."""
    return {row.pod_uid: row for row in sorted(rows, key=lambda row: row.started_at) if row.pod_uid is not None}


def _report(row: WorkerRow, lost: Collection[UUID]) -> Report:
    ended = row.worker_id in lost or row.state in ENDED
    return Report(
        state=WorkerState.LOST if row.worker_id in lost else WorkerState(row.state),
        kind=row.kind,
        slug=row.slug,
        in_flight=row.in_flight,
        on_last_attempt=row.on_last_attempt and not ended,
        results_wait=not ended and (row.unwritten_for or 0.0) >= RESULTS_WAIT_AFTER,
        claims_wait=not ended and (row.unclaimed_for or 0.0) >= CLAIMS_WAIT_AFTER,
        doubts=0 if ended else row.doubts or 0,
        last_error=None if row.last_error is None else shown(row.last_error, limit=LONGEST_ERROR),
    )
