"""A node that is drained. One at a time: while it lasts, no pod of any test finds a place."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from e2e.support.flowworker import FlowWorker, names
from e2e.support.ground import Ground
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.kube import NODES, Kube
from testkit.support.together import together
from testkit.support.waiting import until

AT_ONCE = 1
RUNS = 40


@together
async def test_a_drained_node_loses_and_repeats_nothing(stage: Stage) -> None:
    async with Ground.prepare(stage, "node-drain", single, budget=300) as ground:
        worker = ground.flowworker(
            single, worker={"maxConcurrency": 3, "batchSize": 3}, scaling={"minReplicas": 3, "maxReplicas": 3}
        )
        await worker.apply()
        before = names((await worker.is_at(3)).pods)
        await ground.start_runs(single, RUNS, Plan(seconds=3))
        await ground.began(9)
        async with drain(stage, worker) as drained:
            await until(lambda: left(worker, before), "the first worker has left", patience=60, every=0.5)
            assert not drained.done(), "the budget lets only one go while its successor finds no place"
            await cordon(ground.kube, on=False)
            await drained
        executions = await ground.conclude()
        after = await worker.is_at(3)
        assert not before & names(after.pods)
        assert [one.attempt for one in executions] == [1] * RUNS


@asynccontextmanager
async def drain(stage: Stage, worker: FlowWorker) -> AsyncGenerator[asyncio.Task[str]]:
    """`kubectl drain` of the node, for the pods of one FlowWorker only; uncordoned in the end."""
    (node,) = await worker.kube.list(NODES, None)
    command = (
        *("drain", node["metadata"]["name"], f"--pod-selector=flowworker.dev/name={worker.name}"),
        *("--delete-emptydir-data", "--timeout=120s"),
    )
    draining = asyncio.create_task(stage.programs.kubectl(*command, deadline=150))
    try:
        yield draining
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await cordon(worker.kube, on=False)


async def left(worker: FlowWorker, before: set[str]) -> bool:
    """Whether one of the first workers is gone."""
    return not before <= names(await worker.pods())


async def cordon(kube: Kube, *, on: bool) -> None:
    """Let the node take new pods, or not."""
    for node in await kube.list(NODES, None):
        await kube.patch(NODES, None, node["metadata"]["name"], {"spec": {"unschedulable": on or None}})
