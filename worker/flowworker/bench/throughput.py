"""Tasks per second: a round of the floor, a round of the worker, and again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from flowworker.bench.figures import steady_rate
from flowworker.bench.observing import Usage, usage
from flowworker.bench.processes import Subject, floor, worker
from flowworker.bench.workloads import jobs, noop
from flowworker.database.connection import Connection
from flowworker.database.identifiers import archive_table, queue_table
from flowworker.database.statements import fill, load

ROUND_TIMEOUT = 300.0
GLANCE = 0.1
"""Seconds between two looks at whether a round is over."""


class Kind(StrEnum):
    """What is worked on."""

    FLOW = "flow"
    QUEUE = "queue"


class Side(StrEnum):
    """Who works."""

    FLOOR = "floor"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement."""

    kind: Kind
    side: Side
    concurrency: int
    """Also the batch size."""
    tasks: int
    rate: float
    """Tasks per second in the steady middle."""
    used: Usage
    """By all tasks together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it is measured."""

    dsn: str
    observer: Connection
    folder: Path


async def measure(site: Site, kind: Kind, side: Side, *, concurrency: int, tasks: int) -> Round:
    """Fill the queue, let one side empty it, and see how fast it was and what it used."""
    await site.observer.execute(load("bench/tidy"))
    since: datetime = await site.observer.fetchval(load("bench/now"))
    async with _subject(site, kind, side, concurrency, tasks) as subject:
        async with site.observer.transaction():
            await _fill(site, kind, tasks)
            before = await usage(site.observer, subject.pid)
        subject.send("go")
        await _until_empty(site, kind, subject)
        used = (await usage(site.observer, subject.pid)).since(before)
    rate = steady_rate(await _moments(site, kind, since))
    return Round(kind=kind, side=side, concurrency=concurrency, tasks=tasks, rate=rate, used=used)


@asynccontextmanager
async def _subject(site: Site, kind: Kind, side: Side, concurrency: int, tasks: int) -> AsyncGenerator[Subject]:
    match side:
        case Side.FLOOR:
            started = floor(kind, dsn=site.dsn, batch=concurrency, tasks=tasks, folder=site.folder)
        case Side.WORKER:
            sizes = ("--max-concurrency", str(concurrency), "--batch-size", str(concurrency))
            started = worker(
                "noop" if kind is Kind.FLOW else "jobs",
                slug=_queue_name(kind),
                dsn=site.dsn,
                folder=site.folder,
                observer=site.observer,
                options=(*sizes, "--signal-strategy", "notify"),
            )
    async with started as subject:
        yield subject


async def _fill(site: Site, kind: Kind, tasks: int) -> None:
    statement = load("bench/start_runs" if kind is Kind.FLOW else "bench/send_jobs")
    await site.observer.execute(statement, _queue_name(kind), tasks)


async def _until_empty(site: Site, kind: Kind, subject: Subject) -> None:
    statement = fill("bench/is_empty", queue_table=queue_table(_queue_name(kind)))
    async with asyncio.timeout(ROUND_TIMEOUT):
        while not await site.observer.fetchval(statement):
            subject.check()
            await asyncio.sleep(GLANCE)


async def _moments(site: Site, kind: Kind, since: datetime) -> list[datetime]:
    if kind is Kind.FLOW:
        rows = await site.observer.fetch(load("bench/completed_at"), noop.slug, since)
    else:
        rows = await site.observer.fetch(fill("bench/archived_at", archive_table=archive_table(jobs.name)), since)
    return [row["moment"] for row in rows]


def _queue_name(kind: Kind) -> str:
    return noop.slug if kind is Kind.FLOW else jobs.name
