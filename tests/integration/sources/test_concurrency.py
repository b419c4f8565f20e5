"""Producers and workers all at once: nothing deadlocks, strands, or is superseded without a reason."""

import asyncio
import random
from uuid import UUID, uuid4

from tests.integration.sources.world import World, completed, failed

from flowworker.database.records import ClaimedTask, Completed, Outcome, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.runtime.sources.flow_source import FlowSource

ELEMENTS = 8
RUNS = 40

spread_and_join = Flow("spread_and_join", max_attempts=12, base_delay=0, timeout=60)


@spread_and_join.step
async def spread(value: object) -> list[int]:
    return []


@spread_and_join.map(over=spread)
async def each(element: int) -> int:
    return element


@spread_and_join.step
async def beside(spread: list[int]) -> int:
    return 0


@spread_and_join.step
async def join(each: list[int], beside: int) -> int:
    return 0


class Tally:
    """What all workers saw."""

    def __init__(self) -> None:
        self.verdicts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.ended: list[UUID] = []
        self.returned = 0
        self.finished: list[tuple[UUID | None, str, int]] = []


async def produce(world: World, count: int) -> list[UUID]:
    connection = await world.database.connect()
    runs: list[UUID] = []
    for _ in range(count):
        runs.append(await connection.fetchval("SELECT run_id FROM pgflow.start_flow('spread_and_join', 'null')"))
    await connection.close()
    return runs


def outcome_of(task: ClaimedTask, chance: random.Random, failure_rate: float) -> Outcome:
    if chance.random() < failure_rate:
        return failed()
    return completed(list(range(ELEMENTS)) if task.step_slug == "spread" else task.task_index)


async def consume(source: FlowSource, tally: Tally, chance: random.Random, stop: asyncio.Event) -> None:
    """Claim while the previous batch is written, as a worker does."""
    held: dict[int, ClaimedTask] = {}

    async def write(tasks: list[ClaimedTask]) -> None:
        results = [TaskResult(task=task, outcome=outcome_of(task, chance, 0.1)) for task in tasks]
        finish = await source.finish(results)
        for receipt in finish.receipts:
            tally.verdicts[receipt.verdict] += 1
            task = receipt.result.task
            if receipt.verdict is Verdict.COMPLETED:
                tally.finished.append((task.run_id, task.step_slug, task.task_index))
            if held.get(task.msg_id) is task:
                del held[task.msg_id]
        tally.ended.extend(end.run_id for end in finish.ended_runs)

    writing: set[asyncio.Task[None]] = set()
    while not stop.is_set():
        claim = await source.claim(chance.randint(1, 12), set(held))
        tally.returned += claim.returned
        held.update({task.msg_id: task for task in claim.tasks})
        if claim.tasks:
            batch = asyncio.create_task(write(list(claim.tasks)))
            writing.add(batch)
            batch.add_done_callback(writing.discard)
        await asyncio.sleep(0.002)
    await asyncio.gather(*writing)


async def all_ended(world: World, runs: list[UUID]) -> None:
    """Wait on pgflow's own announcements; each one may be the last."""
    heard = await world.heard("pgflow")
    count = "SELECT count(*) FROM pgflow.runs WHERE run_id = ANY($1) AND status = 'started'"
    while await world.owner.fetchval(count, runs):
        await heard.get()


async def test_producers_and_workers_at_once_strand_nothing(world: World) -> None:
    await world.create(spread_and_join)
    sources = [await world.source(spread_and_join) for _ in range(4)]
    tally, stop = Tally(), asyncio.Event()
    consumers = [
        asyncio.create_task(consume(source, tally, random.Random(seed), stop)) for seed, source in enumerate(sources)
    ]
    async with asyncio.timeout(50):
        batches = await asyncio.gather(produce(world, RUNS // 2), produce(world, RUNS // 2))
        runs = [run for batch in batches for run in batch]
        await all_ended(world, runs)
        stop.set()
        await asyncio.gather(*consumers)
    statuses = await world.owner.fetch("SELECT status, output FROM pgflow.runs")
    assert {row["status"] for row in statuses} == {"completed"}
    assert sorted(tally.ended) == sorted(runs)
    assert len(tally.finished) == len(set(tally.finished)) == RUNS * (ELEMENTS + 3)
    assert tally.verdicts[Verdict.SUPERSEDED] == tally.verdicts[Verdict.FAILED] == 0
    assert tally.verdicts[Verdict.RETRYING] > 0
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_spread_and_join") == 0
    assert await world.owner.fetchval("SELECT count(*) FROM pgflow.step_tasks WHERE status <> 'completed'") == 0
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.owner.fetchval(deadlocks) == 0


async def test_overlapping_batches_of_the_same_runs_do_not_deadlock(world: World) -> None:
    """Every batch touches every run, in shuffled order, half of it failing."""
    wide = Flow("wide_map", max_attempts=50, base_delay=0, timeout=60)

    @wide.map
    async def each(element: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return element

    await world.create(wide)
    for _ in range(3):
        await world.start("wide_map", list(range(16)))
    sources = [await world.source(wide, worker_id=uuid4()) for _ in range(4)]
    chance = random.Random(7)
    batches: list[list[ClaimedTask]] = [list((await source.claim(12, ())).tasks) for source in sources]
    assert sum(map(len, batches)) == 48
    for batch in batches:
        chance.shuffle(batch)

    async def write(source: FlowSource, batch: list[ClaimedTask]) -> list[Verdict]:
        results = [TaskResult(task=task, outcome=outcome_of(task, chance, 0.5)) for task in batch]
        return [receipt.verdict for receipt in (await source.finish(results)).receipts]

    verdicts = await asyncio.gather(*(write(*pair) for pair in zip(sources, batches, strict=True)))
    assert {verdict for batch in verdicts for verdict in batch} == {Verdict.COMPLETED, Verdict.RETRYING}
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.owner.fetchval(deadlocks) == 0


async def test_a_claim_that_another_worker_duplicates_is_fenced(world: World) -> None:
    """The outcome that is written first wins; the other is refused."""
    flow = Flow("one", max_attempts=2, base_delay=0)

    @flow.step
    async def only(value: object) -> object:  # pyright: ignore[reportUnusedFunction]
        return value

    await world.create(flow)
    source = await world.source(flow)
    await world.start("one")
    (task,) = (await source.claim(1, ())).tasks
    results = [TaskResult(task=task, outcome=Completed(output=str(n).encode(), duration=0.0)) for n in range(4)]
    finish = await source.finish(results)
    status, output = await world.run(task.run_id or uuid4())
    assert (status, output["only"] in range(4)) == ("completed", True)
    assert [receipt.verdict for receipt in finish.receipts].count(Verdict.COMPLETED) >= 1
