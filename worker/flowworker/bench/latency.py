"""How long an idle worker takes to notice: from a run's start to the handler, and from step to step.

Handlers return the machine's monotonic clock, which all its processes share; so nothing has to be sent at the moment
that is measured.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson

from flowworker.bench.processes import worker
from flowworker.bench.throughput import Site
from flowworker.bench.workloads import chain, stamp
from flowworker.database.statements import load

SPACING = (0.5, 0.7)
"""Seconds between two starts: beyond pgmq's throttle and the trailing poll, so that the worker is idle."""

PATIENCE = 60.0
NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Measured times, in seconds."""

    pickup: Sequence[float]
    """From the call of start_flow to the handler's first line."""
    announced: Sequence[float]
    """From the commit of start_flow, as its caller sees it, to the handler's first line."""
    steps: Sequence[float]
    """From the end of one step's handler to the first line of the next one's."""


async def measure_latencies(site: Site, *, pickups: int, chains: int) -> Latencies:
    """Start runs one by one, for a worker with `notify` that has nothing else to do."""
    async with _listening("stamp", stamp.slug, site):
        calls = await _start(site, stamp.slug, pickups)
        outputs = await _outputs(site, list(calls))
    async with _listening("chain", chain.slug, site):
        ran = await _start(site, chain.slug, chains)
        stamps = await _outputs(site, list(ran))
    arrivals = {run_id: steps["arrival"] for run_id, steps in outputs.items()}
    return Latencies(
        pickup=[(arrivals[run_id] - began) / NANOSECONDS for run_id, (began, _) in calls.items()],
        announced=[(arrivals[run_id] - committed) / NANOSECONDS for run_id, (_, committed) in calls.items()],
        steps=[gap for steps in stamps.values() for gap in _gaps(steps)],
    )


def _gaps(steps: Mapping[str, int]) -> list[float]:
    return [(later - earlier) / NANOSECONDS for earlier, later in pairwise(steps[slug] for slug in chain.steps)]


def _listening(workload: str, slug: str, site: Site) -> Any:
    options = ("--signal-strategy", "notify")
    return worker(workload, slug=slug, dsn=site.dsn, folder=site.folder, observer=site.observer, options=options)


async def _start(site: Site, slug: str, runs: int) -> dict[UUID, tuple[int, int]]:
    """Start runs with pauses; when each call began and returned, in monotonic nanoseconds."""
    statement, calls = load("bench/start_run"), dict[UUID, tuple[int, int]]()
    for _ in range(runs):
        await asyncio.sleep(random.uniform(*SPACING))  # noqa: S311 - jitter
        began = time.monotonic_ns()
        run_id: UUID = await site.observer.fetchval(statement, slug)
        calls[run_id] = (began, time.monotonic_ns())
    return calls


async def _outputs(site: Site, run_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """What every step of every run returned, once all have ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            rows = await site.observer.fetch(load("bench/outputs"), run_ids)
            if all(row["status"] == "completed" for row in rows):
                break
            await asyncio.sleep(0.1)
    found: dict[UUID, dict[str, int]] = {run_id: {} for run_id in run_ids}
    for row in rows:
        found[row["run_id"]][row["step_slug"]] = orjson.loads(row["output"])
    return found
