"""What a dead worker held runs again in time, however much it was, and whatever is locked or slow."""

from uuid import uuid4

import orjson
from testkit.support.processes import WorkerProcess
from testkit.support.together import together
from testkit.support.waiting import until
from tests.chaos.arena import Arena
from tests.chaos.disturbing import locked
from tests.chaos.ground import Ground
from tests.chaos.workloads import Plan, crowd, fan, single

from flowworker.definition.flow import Flow

RERUN_WITHIN = 20.0
"""Seconds from the kill."""

EACH = 50
"""Tasks of each flow of the crowd."""


@together
async def test_a_locked_run_holds_up_no_other_task_of_a_dead_worker(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        victim, heir = ground.worker("victim", "single"), ground.worker("heir", "single")
        await victim.start()
        runs = [await ground.start_run(single, Plan(gate="open")) for _ in range(10)]
        await ground.began(10, worker="victim")
        await heir.start()
        async with locked(ground, [f"SELECT FROM pgflow.runs WHERE run_id = '{runs[3]}' FOR UPDATE"]):
            await _killed(ground, victim, others=9)
        ground.open_gate("open")
        await ground.conclude()


@together
async def test_a_thousand_tasks_of_twenty_flows_of_a_dead_worker_run_again_but_for_a_locked_one(arena: Arena) -> None:
    async with arena.ground(*crowd) as ground:
        victim = ground.worker("victim", "crowd", max_concurrency=str(EACH), batch_size=str(EACH))
        heir = ground.worker("heir", "crowd", max_concurrency=str(EACH), batch_size=str(EACH))
        await victim.start()
        for flow in crowd:
            await _start_runs(ground, flow, EACH)
        number = EACH * len(crowd)
        await ground.began(number, worker="victim", patience=60)
        await heir.start()
        one = next(iter(ground.started))
        async with locked(ground, [f"SELECT FROM pgflow.runs WHERE run_id = '{one}' FOR UPDATE"]):
            await _killed(ground, victim, others=number - 1)
        ground.open_gate("open")
        await ground.conclude(patience=60)


@together
async def test_a_dead_peer_of_twenty_flows_is_noticed_over_200_ms_of_latency(arena: Arena) -> None:
    async with arena.ground(*crowd) as ground:
        victim = ground.worker("victim", "crowd", min_poll_interval="1", max_poll_interval="5")
        heir = ground.worker("heir", "crowd", through_proxy=True, min_poll_interval="1", max_poll_interval="5")
        await victim.start()
        await ground.start_run(crowd[0], Plan(gate="open"))
        await ground.began(worker="victim")
        await heir.start()
        await until(lambda: _registered(ground, "heir"), "the heir serves every flow")
        ground.proxy.latency = 0.1
        await _killed(ground, victim, others=1)
        ground.open_gate("open")
        await ground.conclude()


SLOW_TO_CLAIM = """
    CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.flow_slug = 'fan' AND NEW.status = 'started' THEN PERFORM pg_sleep(25); END IF;
        RETURN NEW;
    END$$;
    CREATE TRIGGER dawdle BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW EXECUTE FUNCTION public.dawdle();
"""


@together
async def test_slow_claims_of_one_flow_delay_no_recovery_of_another(arena: Arena) -> None:
    async with arena.ground(fan, single) as ground:
        victim, heir = ground.worker("victim", "single"), ground.worker("heir", "single", "fan")
        await victim.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(1, worker="victim")
        await ground.owner.execute(SLOW_TO_CLAIM)
        await heir.start()
        await ground.start_run(fan, [Plan()])
        await until(lambda: "cannot claim" in heir.log(), "a claim is too slow for the connection of all claims")
        await _killed(ground, victim, others=1)
        await ground.owner.execute("DROP TRIGGER dawdle ON pgflow.step_tasks")
        ground.open_gate("open")
        await ground.conclude(patience=60)


async def _killed(ground: Ground, victim: WorkerProcess, *, others: int) -> None:
    """Kill a worker; so many of its tasks must soon begin in the heir."""
    ground.fault("kill", victim, began=victim.kill())
    await ground.began(others, worker="heir", patience=RERUN_WITHIN)


async def _registered(ground: Ground, name: str) -> bool:
    return sum(report["pod_name"] == name for report in await ground.reports()) == len(crowd)


async def _start_runs(ground: Ground, flow: Flow, number: int) -> None:
    """Start many runs at once, all waiting at the same gate."""
    ids = [uuid4() for _ in range(number)]
    await ground.owner.execute(
        "SELECT FROM unnest($3::uuid[]) AS run(id) CROSS JOIN LATERAL pgflow.start_flow($1, $2, run.id)",
        flow.slug, orjson.dumps(Plan(gate="open").model_dump()), ids,
    )  # fmt: skip
    ground.started.update(str(run_id) for run_id in ids)
