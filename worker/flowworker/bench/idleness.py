"""What a worker costs while it has nothing to do."""

import asyncio
from dataclasses import dataclass

from flowworker.bench.observing import resident_bytes, usage
from flowworker.bench.processes import worker
from flowworker.bench.throughput import Kind, Site
from flowworker.bench.workloads import jobs, noop

CALM = 3.0
"""Seconds after the start that do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """One idle worker."""

    kind: Kind
    seconds: float
    """How long it was watched."""
    statements: float | None
    database_seconds: float | None
    process_seconds: float | None
    resident_bytes: int | None


async def measure_idle(site: Site, kind: Kind, *, seconds: float) -> Idle:
    """Watch an idle flow worker with `notify`, or an idle queue worker with its fallback alone."""
    workload, slug, options = (
        ("noop", noop.slug, ("--signal-strategy", "notify")) if kind is Kind.FLOW else ("jobs", jobs.name, ())
    )
    async with worker(
        workload, slug=slug, dsn=site.dsn, folder=site.folder, observer=site.observer, options=options
    ) as subject:
        await asyncio.sleep(CALM)
        before = await usage(site.observer, subject.pid)
        await asyncio.sleep(seconds)
        subject.check()
        used = (await usage(site.observer, subject.pid)).since(before)
        return Idle(
            kind=kind,
            seconds=seconds,
            statements=used.statements,
            database_seconds=used.database_seconds,
            process_seconds=used.process_seconds,
            resident_bytes=resident_bytes(subject.pid),
        )
