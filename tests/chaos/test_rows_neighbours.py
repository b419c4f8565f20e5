"""One slow, locked or huge thing: its neighbours in the same process feel nothing of it."""

import asyncio
import time

from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.disturbing import locked
from tests.chaos.ground import Ground
from tests.chaos.offers import Offer, promptness
from tests.chaos.workloads import Plan, Spread, beside, calm, fan, jobs, single, wide

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

LEASE_AND_MORE = 20.0
"""Seconds."""

WITHIN = 20.0
"""Seconds in which neighbours must end that take less than one when they are alone."""

BEFORE = 5.0
BESIDE_HUGE = 20.0
MOST_PROMPT = 0.95


@together
async def test_a_locked_queue_table_takes_no_job_of_another_queue_from_its_worker(arena: Arena) -> None:
    async with arena.ground(jobs, beside) as ground:
        holder, rival = ground.worker("holder", "jobs", "beside"), ground.worker("rival", "beside")
        await holder.start()
        await ground.send(beside, Plan(gate="open"))
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(2, worker="holder")
        await rival.start()
        async with locked(ground, ["LOCK TABLE pgmq.q_jobs IN ACCESS EXCLUSIVE MODE"]):
            await hold_for(LEASE_AND_MORE)
            assert ground.executions(worker="rival") == []
            ground.open_gate("open")
            await until(lambda: _ended(ground, beside), "the job of the other queue is written", patience=WITHIN)
        await ground.conclude(patience=60)
        assert len(ground.executions()) == 2


@together
async def test_a_run_locked_by_an_application_holds_up_no_other_run_flow_or_queue(arena: Arena) -> None:
    async with arena.ground(fan, single, jobs) as ground:
        await ground.worker("worker", "fan", "single", "jobs").start()
        held = await ground.start_run(fan, [Plan(gate="open")] * 4)
        await ground.began(4)
        async with locked(ground, [f"SELECT FROM pgflow.runs WHERE run_id = '{held}' FOR UPDATE"]):
            ground.open_gate("open")
            for _ in range(10):
                await ground.start_run(fan, [Plan()] * 4)
                await ground.start_run(single, Plan())
                await ground.send(jobs, Plan())
            ground.started.discard(str(held))
            await ground.drained(patience=WITHIN)
            ground.started.add(str(held))
        await ground.conclude()


@together
async def test_quiet_flows_beside_maps_with_large_inputs_keep_their_pace(arena: Arena) -> None:
    async with arena.ground(wide, calm, beside) as ground:
        await ground.worker("worker", "wide", "calm", "beside").start()
        offers = [Offer(ground, calm, 0.2, Plan()), Offer(ground, beside, 0.2, Plan())]
        closing = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for offer in offers:
                group.create_task(offer.run(closing))
            await ground.began(4)
            before = time.monotonic_ns()
            await hold_for(BEFORE)
            began = time.monotonic_ns()
            # Such a map is not drained here: the pace of the others is all that is asked for.
            run = await ground.start_run(wide, Spread(elements=1000, weight=4000))
            ground.started.discard(str(run))
            await hold_for(BESIDE_HUGE)
            ended = time.monotonic_ns()
            closing.set()
        await ground.drained()
        prompt = [_promptness(ground, offer, before=(before, began), during=(began, ended)) for offer in offers]
        assert min(prompt) >= MOST_PROMPT


def _promptness(ground: Ground, offer: Offer, *, before: tuple[int, int], during: tuple[int, int]) -> float:
    step = "quiet" if isinstance(offer.workload, Flow) else offer.workload.name
    return promptness(offer.offered, ground.executions(step=step), before=before, during=during)


async def _ended(ground: Ground, queue: Queue) -> bool:
    return bool(await ground.owner.fetchval(f"SELECT count(*) FROM pgmq.a_{queue.name}"))
