"""Asking a database what the operator asks, and filling it with what it is asked about."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID, uuid4

import orjson
from testkit.support.waiting import PATIENCE, until
from tests.conftest import Database

from flowworker.database import probe
from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection, connect
from flowworker.database.probe import Question, Sample, Target
from flowworker.database.records import SourceKind
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import ClientCertificate, Databases, Key, Reading, Subject
from flowworker_operator.database.hosts import KnownHosts, known_hosts
from flowworker_operator.database.interpret import reading_of, target_of
from flowworker_operator.domain.snapshot import Demand, Fault
from flowworker_operator.resolver import Lookup, system_lookup

TIMEOUT = 20.0
LOCAL = known_hosts(["127.0.0.1", "localhost"])

MALFORMED = (
    "null", "7", '"run"', "[]", "{}", '{"run_id": null}', '{"run_id": "no id", "step_slug": "only", "task_index": 0}',
    '{"run_id": "gggggggg-gggg-gggg-gggg-gggggggggggg", "step_slug": "only", "task_index": 0}',
    '{"run_id": "--------------------------------", "step_slug": "only", "task_index": 0}',
    '{"run_id": ["a"], "step_slug": {"a": 1}, "task_index": "0"}',
    '{"run_id": "00000000-0000-0000-0000-000000000000", "step_slug": "only", "task_index": 1e300}',
    '{"run_id": "00000000-0000-0000-0000-000000000000", "step_slug": "only", "task_index": -1}',
    '{"run_id": "00000000-0000-0000-0000-000000000000", "step_slug": "only", "task_index": 0.5}',
)  # fmt: skip
"""Bodies that any client may send to a flow's queue and that belong to no task."""


def subject(
    slug: str = "one_step",
    kind: Literal["flow", "queue"] = "flow",
    *,
    cap: int = 21,
    name: str | None = None,
    namespace: str = "shop",
    eager: bool = True,
) -> Subject:
    """A FlowWorker named after its flow or queue."""
    key = Key(namespace=namespace, name=name or slug.replace("_", "-").lower())
    return Subject(key=key, kind=kind, slug=slug, cap=cap, eager=eager)


async def session(database: Database) -> Connection:
    """A connection as the operator opens it, with the worker's rights."""
    return await connect(database.worker_dsn, application_name="test probe", settings=probe.SETTINGS)


async def question(connection: Connection, targets: Sequence[Target], *, queues: bool = True) -> Question:
    """The prepared probe of these targets, all of whose queues exist."""
    text = probe.statement(targets, [queues] * len(targets), await detect(connection))
    return await probe.prepare(connection, text, timeout=TIMEOUT)


@asynccontextmanager
async def asking(database: Database, *subjects: Subject, queues: bool = True) -> AsyncGenerator["Asker"]:
    """Someone who can be asked for samples again and again."""
    connection = await session(database)
    targets = [target_of(one) for one in subjects]
    try:
        yield Asker(subjects, targets, await question(connection, targets, queues=queues))
    finally:
        await connection.close()


class Asker:
    """Reads the same subjects again and again."""

    def __init__(self, subjects: Sequence[Subject], targets: Sequence[Target], question: Question) -> None:
        self._subjects = subjects
        self._targets = targets
        self._question = question

    async def samples(self) -> Sequence[Sample]:
        return (await self._question.ask(self._targets, timeout=TIMEOUT)).samples

    async def readings(self) -> Sequence[Reading]:
        samples = await self.samples()
        return [
            reading_of(one, sample, frozenset(), tick=0.0, database="")
            for one, sample in zip(self._subjects, samples, strict=True)
        ]


async def read(database: Database, one: Subject, *, queues: bool = True) -> Reading:
    """What one look at the database says about a subject."""
    async with asking(database, one, queues=queues) as asker:
        (reading,) = await asker.readings()
        return reading


async def demand(database: Database, one: Subject, *, queues: bool = True) -> Demand:
    """What there is to do for a subject."""
    found = (await read(database, one, queues=queues)).demand
    assert found is not None
    return found


async def send(owner: Connection, queue: str, body: object = None, *, delay: int = 0) -> int:
    """Send a message."""
    return await owner.fetchval("SELECT pgmq.send($1, $2::jsonb, $3::integer)", queue, orjson.dumps(body or {}), delay)


async def report(owner: Connection, worker_id: UUID | None = None, **changes: Any) -> UUID:
    """Write a worker's row as its heartbeats would have."""
    values: dict[str, Any] = {
        "worker_id": worker_id or uuid4(),
        "boot_id": uuid4(),
        "kind": SourceKind.FLOW,
        "slug": "one_step",
        "worker_name": "w",
        "namespace": "shop",
        "flowworker": "one-step",
        "version": "0",
        "state": "running",
        "slots": 10,
        **changes,
    }
    columns = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await owner.execute(f"INSERT INTO flowworker.workers ({columns}) VALUES ({places})", *values.values())
    return values["worker_id"]


class Observer:
    """Databases, and what they have reported."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, lookup: Lookup = system_lookup, known: KnownHosts = LOCAL
    ) -> None:
        self.changed: list[Key] = []
        self.databases = Databases(clock=clock, on_reading=self.changed.append, lookup=lookup, known=known)

    def watch(
        self,
        dsn: str,
        *subjects: Subject,
        certificates: str | None = None,
        client: ClientCertificate | None = None,
    ) -> None:
        for one in subjects:
            self.databases.watch(one, dsn, certificates, client)

    def demand(self, one: Subject) -> Demand | None:
        """What there is to do as last read; None while the last attempt failed."""
        reading = self.databases.reading(one.key)
        return None if reading is None or self.databases.fault(one.key) else reading.demand

    async def reads(self, one: Subject) -> Reading:
        """A reading that was asked for after this call."""
        now = time.monotonic()

        def fresh() -> Reading | None:
            reading = self.databases.reading(one.key)
            return reading if reading and reading.tick >= now and self.databases.fault(one.key) is None else None

        return await until(fresh, f"a reading of {one.slug}")

    async def fails(self, one: Subject, reason: Reason, *, within: float = PATIENCE) -> str:
        """Wait for a fault of this reason; its message."""

        def failed() -> Fault | None:
            fault = self.databases.fault(one.key)
            return fault if fault and fault.reason is reason else None

        try:
            return (await until(failed, f"a fault {reason}", patience=within)).message
        except AssertionError as error:
            raise AssertionError(f"{error}; instead: {self.databases.fault(one.key)}") from None
