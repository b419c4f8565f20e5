"""One cell of the fault matrix, from the first worker's start to the verdict."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

from testkit.support.waiting import hold_for, until
from tests.chaos.arena import OWN_ROLES, Arena
from tests.chaos.cells import Cell, Kind
from tests.chaos.disturbing import disturbed
from tests.chaos.ground import SECOND, Ground
from tests.chaos.load import repeats
from tests.chaos.offers import Offer, promptness
from tests.chaos.sessions import MOST, Sessions
from tests.chaos.workloads import Plan, beside, calm, fan, jobs

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

WARM = 3
"""Executions of each workload in the disturbed worker before anything is measured."""

BEFORE = 5.0
"""Seconds of undisturbed work before the fault."""

RESUMES_WITHIN = 20.0
"""Seconds from the heal to the next handler of the disturbed workload in the disturbed worker."""

DRAINS_WITHIN = 90.0
LEAST_PROMPT = 0.95
GATE = "healed"

MOST_SHOWN = 12
WIDEST = 300
"""Violations of a cell that are printed, and characters of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a cell showed."""

    cell: Cell
    units: int
    """Runs and jobs."""
    repeats: int
    """Executions beyond the first of their attempt."""
    deaths: int
    prompt: float
    """Share of the undisturbed workload of both workers that was served as promptly as before the fault."""
    neighbours: float
    """The same of what the disturbed worker serves besides, and alone."""
    sessions: Mapping[str, int]
    """Most sessions on the server at once, by worker."""
    resumed: float
    """Seconds from the heal; infinity: not at all."""
    violations: Sequence[str]

    def __str__(self) -> str:
        most = max(self.sessions.values(), default=0)
        figures = (
            f"{self.units:5} units {self.repeats:3} repeats {self.deaths:2} deaths  "
            f"prompt {self.prompt:4.0%} {self.neighbours:4.0%}  sessions {most:2}  resumed {self.resumed:5.1f} s"
        )
        verdict = "" if self.violations else "good"
        shown = [one if len(one) <= WIDEST else f"{one[:WIDEST]}…" for one in self.violations[:MOST_SHOWN]]
        rest = [f"and {len(self.violations) - MOST_SHOWN} more"] if len(self.violations) > MOST_SHOWN else []
        return "\n    ".join([f"{self.cell!s:26} {figures}  {verdict}", *shown, *rest])


async def run_cell(arena: Arena, cell: Cell, *, seconds: float, seed: int) -> Result:
    """Disturb one connection of one of two workers for so many seconds, heal it, and judge what happened."""
    workload: Flow | Queue = fan if cell.kind is Kind.FLOW else jobs
    async with arena.ground(workload, calm, beside) as ground:
        await _start_workers(ground, workload)
        offers = [
            Offer(ground, workload, 1.0 if cell.kind is Kind.FLOW else 0.25, Plan(seconds=0.2)),
            Offer(ground, calm, 0.4, Plan(seconds=0.2)),
            Offer(ground, beside, 0.4, Plan(seconds=0.2)),
        ]
        sessions = Sessions(ground)
        async with _under_load(offers, sessions):
            for step in (_step(workload), "quiet", beside.name):
                await ground.began(WARM, worker="disturbed", step=step)
            before = time.monotonic_ns()
            await hold_for(BEFORE)
            await _hold_work(offers[0])
            async with disturbed(ground, cell, offers[0], Random(f"{seed} {cell}")):
                began = time.monotonic_ns()
                await hold_for(seconds)
            healed = time.monotonic_ns()
            ground.open_gate(GATE)
            resumed = await _resumed(ground, workload, healed)
        if (fault := cell.excuse("disturbed", began, healed)) is not None:
            ground.excuse(fault)
        undrained = await _drain(ground)
        windows = {"before": (before, began), "during": (began, healed)}
        prompt = promptness(offers[1].offered, ground.executions(step="quiet"), **windows)
        neighbours = promptness(offers[2].offered, ground.executions(step=beside.name), **windows)
        reports = await ground.reports()
        result = Result(
            cell=cell,
            units=len(ground.started),
            repeats=repeats(ground),
            deaths=sum(report["state"] == "lost" for report in reports),
            prompt=prompt,
            neighbours=neighbours,
            sessions=sessions.most,
            resumed=resumed,
            violations=(),
        )
        verdict = judged(result, [*undrained, *await _wrongs(ground)])
        if verdict.violations:
            ground.keep()
        return verdict


def judged(result: Result, wrongs: Sequence[str]) -> Result:
    """A result with everything that is wrong with it."""
    found = list(wrongs)
    if result.prompt < LEAST_PROMPT:
        found.append(f"the undisturbed flow kept {result.prompt:.0%} of its rate")
    if result.cell.spares_neighbours and result.neighbours < LEAST_PROMPT:
        found.append(f"what the disturbed worker serves besides kept {result.neighbours:.0%} of its rate")
    found += [f"{name} had {most} sessions" for name, most in result.sessions.items() if most > MOST]
    if result.resumed > RESUMES_WITHIN:
        found.append(f"the disturbed worker did not go on within {RESUMES_WITHIN:g} s of the heal")
    return replace(result, violations=found)


async def _start_workers(ground: Ground, workload: Flow | Queue) -> None:
    reference = "fan" if workload is fan else "jobs"
    first, second, *_ = OWN_ROLES
    await ground.start_workers(
        ground.worker(
            "disturbed", reference, "calm", "beside", through_proxy=True, role=first, signal_strategy="notify"
        ),
        ground.worker("steady", reference, "calm", role=second, signal_strategy="notify"),
    )


@asynccontextmanager
async def _under_load(offers: Sequence[Offer], sessions: Sessions) -> AsyncGenerator[None]:
    closing = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for offer in offers:
            group.create_task(offer.run(closing))
        group.create_task(sessions.watch(closing))
        try:
            yield
        finally:
            closing.set()


async def _hold_work(offer: Offer) -> None:
    """Work that is under way through the whole fault."""
    gated = Plan(gate=GATE, gated="each" if offer.workload is fan else None)
    async with offer.ground.customer() as connection:
        for _ in range(1 if offer.workload is fan else 4):
            await offer.put(connection, gated)


async def _resumed(ground: Ground, workload: Flow | Queue, healed: int) -> float:
    """Seconds from the heal to the disturbed worker's next handler of the disturbed workload."""

    def later() -> list[int]:
        mine = ground.executions(worker="disturbed")
        return [one.began for one in mine if one.began > healed and one.key.step in _steps(workload)]

    try:
        return (min(await until(later, "the disturbed worker goes on", patience=RESUMES_WITHIN + 1)) - healed) / SECOND
    except AssertionError:
        return float("inf")


async def _drain(ground: Ground) -> list[str]:
    try:
        await ground.drained(patience=DRAINS_WITHIN)
    except AssertionError as error:
        return [str(error)]
    return []


async def _wrongs(ground: Ground) -> list[str]:
    """What the checker finds, and what no worker should have to write into its log."""
    wrongs = [str(violation) for violation in (*await ground.verdict(), *await ground.verdict(jobs=True))]
    for worker in ground.workers.values():
        wrongs += [f"log of {worker.name}: {line}" for line in worker.complaints()]
    return wrongs


def _steps(workload: Flow | Queue) -> frozenset[str]:
    return frozenset(workload.steps) if isinstance(workload, Flow) else frozenset({workload.name})


def _step(workload: Flow | Queue) -> str:
    return "each" if isinstance(workload, Flow) else workload.name
