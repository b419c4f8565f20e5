"""Nodes that are drained, and nodes that vanish. One at a time: while it lasts, pods of all tests lack places."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from e2e.support.flowworker import NAME_LABEL, FlowWorker, Frame, names
from e2e.support.ground import Ground
from e2e.support.release import DEPLOYMENT, NAMESPACE
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.kube import NODES, PODS, Kube, Object, Objects
from testkit.support.together import together
from testkit.support.waiting import until

from flowworker_operator.cluster.resources import LEASES

AT_ONCE = 1
RUNS = 40
FEW_SLOTS = {"maxConcurrency": 3, "batchSize": 3}
HOST = "kubernetes.io/hostname"

RERUN_WITHIN = 20.0
"""Seconds from the loss of a node to the next execution of what its workers held."""
LEADER_WITHIN = 20.0
"""Seconds from the loss of the leader to the next one."""
NOTICED_WITHIN = 120.0
"""Seconds until Kubernetes calls pods of a node that says nothing not ready: 50, and what a busy machine adds."""


@together
async def test_a_drained_node_loses_and_repeats_nothing(stage: Stage) -> None:
    async with Ground.prepare(stage, "node-drain", single, budget=300) as ground:
        worker = ground.flowworker(single, worker=FEW_SLOTS, scaling={"minReplicas": 3, "maxReplicas": 3})
        await worker.apply()
        before = names((await worker.is_at(3)).pods)
        await ground.start_runs(single, RUNS, Plan(seconds=3))
        await ground.began(9)
        async with drain(stage, worker, stage.cluster.capabilities.nodes) as drained:
            await until(lambda: left(worker, before), "the first worker has left", patience=60, every=0.5)
            assert not drained.done(), "the budget lets only one go while its successor finds no place"
            await cordon(ground.kube, on=False)
            await drained
        executions = await ground.conclude()
        after = await worker.is_at(3)
        assert not before & names(after.pods)
        assert [one.attempt for one in executions] == [1] * RUNS


@together
async def test_the_workers_of_a_node_that_is_drained_under_load_move_to_the_other(stage: Stage) -> None:
    _, other = two_nodes(stage)
    async with Ground.prepare(stage, "node-move", single, budget=300) as ground:
        worker = spread(ground)
        await worker.apply()
        leaving = names(on(other, (await worker.is_at(4)).pods))
        assert len(leaving) == 2
        await ground.start_runs(single, RUNS, Plan(seconds=3))
        await ground.began(12)
        async with worker.observed() as frames, drain(stage, worker, [other]) as drained:
            await drained
            executions = await ground.conclude()
            after = await worker.is_at(4)
        assert not on(other, after.pods)
        assert [one.attempt for one in executions] == [1] * RUNS
        assert leaving <= {one.worker for one in executions}
        assert min(frame.ready() for frame in frames) >= 3, "the budget lets a quarter go at a time"


@together
async def test_work_of_a_node_that_vanishes_is_done_on_the_other_and_the_flowworker_names_its_workers(
    stage: Stage,
) -> None:
    first, other = two_nodes(stage)
    async with Ground.prepare(stage.with_disturbance(), "node-loss", single, budget=480) as ground:
        await move_operator(stage, ground.kube, first)
        worker = spread(ground)
        await worker.apply()
        lost = names(on(other, (await worker.is_at(4)).pods))
        assert len(lost) == 2
        await ground.start_runs(single, RUNS, Plan(seconds=3))
        await ground.began(12)
        began = time.monotonic_ns()
        async with without(stage, other):
            ground.fault("loss of a node", *lost, began=began, rerun_within=RERUN_WITHIN)
            await worker.shows("the workers that are lost", lambda frame: lost_workers(frame) == lost)
            executions = await ground.conclude(repeats=6)
            assert {one.attempt for one in executions} == {1}
            await worker.shows("two ready workers", has_two_ready, patience=NOTICED_WITHIN)
            message = (await worker.becomes("Ready", "True", "Running"))["message"]
            assert message.startswith("2 of 4 workers are ready; Kubernetes does not hear from the node of "), message
            assert all(pod in message for pod in lost), message
        await worker.is_at(4, patience=NOTICED_WITHIN)


@together
async def test_when_the_node_of_the_leader_vanishes_its_standby_leads_within_20_s(stage: Stage) -> None:
    first, other = two_nodes(stage)
    async with Ground.prepare(stage.with_disturbance(), "leader-loss", single, budget=480) as ground:
        await move_operator(stage, ground.kube, other)
        try:
            async with without_places(ground.kube, other):
                await stage.release.install(ground.kube, replicas=2)
            operators = await stage.release.pods(ground.kube)
            assert await leader(ground.kube) in names(on(other, operators))
            (standby,) = on(first, operators)
            worker = ground.flowworker(single, template={"spec": {"nodeSelector": {HOST: first}}})
            await worker.apply()
            await worker.becomes("Ready", "True", "Idle")
            await worker.is_at(0)
            async with without(stage, other):

                async def leads() -> bool:
                    return await leader(ground.kube) == standby["metadata"]["name"]

                await until(leads, "the standby leads", patience=LEADER_WITHIN, every=0.3)
                await ground.start_runs(single, 5, Plan())
                await ground.conclude()
        finally:
            await stage.release.install(ground.kube)


def two_nodes(stage: Stage) -> tuple[str, str]:
    """The first node and another one; skips the test on a cluster that has one only."""
    nodes = stage.cluster.capabilities.nodes
    if len(nodes) == 1:
        pytest.skip(f"the cluster ({stage.cluster.name}) has one node")
    return nodes[0], nodes[1]


def spread(ground: Ground) -> FlowWorker:
    """Four workers, of which each node has as many as any other that takes pods."""
    evenly: Object = {
        "maxSkew": 1,
        "topologyKey": HOST,
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {NAME_LABEL: single.slug}},
    }
    changes: dict[str, Any] = {"template": {"spec": {"topologySpreadConstraints": [evenly]}}}
    return ground.flowworker(single, worker=FEW_SLOTS, scaling={"minReplicas": 4, "maxReplicas": 4}, **changes)


def on(node: str, pods: Objects) -> Objects:
    """Those of the pods that a node has."""
    return [pod for pod in pods if pod["spec"].get("nodeName") == node]


def lost_workers(frame: Frame) -> set[str]:
    """Pods whose workers the status calls lost."""
    return {one["pod"] for one in frame.status.get("workers", {}).get("list", ()) if one["state"] == "lost"}


def has_two_ready(frame: Frame) -> bool:
    """Kubernetes has noticed the loss, and the status says so."""
    return frame.ready() == frame.status["readyReplicas"] == 2


async def leader(kube: Kube) -> str:
    """Pod of the operator that holds the Lease."""
    found = await kube.get(LEASES, NAMESPACE, DEPLOYMENT)
    assert found is not None
    return (found["spec"].get("holderIdentity") or "").partition("_")[0]


async def move_operator(stage: Stage, kube: Kube, node: str) -> None:
    """Have the operator run on a node, where it leads."""
    async with without_places(kube, *(one for one in stage.cluster.capabilities.nodes if one != node)):
        for pod in await stage.release.pods(kube):
            await kube.delete(PODS, NAMESPACE, pod["metadata"]["name"])

        async def leads() -> bool:
            return await leader(kube) in names(on(node, await stage.release.pods(kube)))

        await until(leads, f"the operator leads on {node}", patience=60, every=0.5)
    await stage.release.available(kube)


@asynccontextmanager
async def without(stage: Stage, node: str) -> AsyncGenerator[None]:
    """A node is gone, as by a loss of power, while the block lasts."""
    await asyncio.to_thread(stage.cluster.stop_node, node)
    try:
        yield
    finally:
        await asyncio.to_thread(stage.cluster.start_node, node)


@asynccontextmanager
async def without_places(kube: Kube, *nodes: str) -> AsyncGenerator[None]:
    """Nodes take no new pods while the block lasts."""
    await cordon(kube, *nodes, on=True)
    try:
        yield
    finally:
        await cordon(kube, *nodes, on=False)


@asynccontextmanager
async def drain(stage: Stage, worker: FlowWorker, nodes: Sequence[str]) -> AsyncGenerator[asyncio.Task[str]]:
    """`kubectl drain` of nodes, for the pods of one FlowWorker only; uncordoned in the end."""
    command = (
        *("drain", *nodes, f"--pod-selector={NAME_LABEL}={worker.name}"),
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


async def cordon(kube: Kube, *nodes: str, on: bool) -> None:
    """Let nodes take new pods, or not; all of them where none is named."""
    for name in nodes or [node["metadata"]["name"] for node in await kube.list(NODES, None)]:
        await kube.patch(NODES, None, name, {"spec": {"unschedulable": on or None}})
