"""Workers that are replaced, evicted, restarted and killed while they work: nothing is lost, little is repeated."""

import time

from e2e.support.flowworker import FlowWorker, Frame, names, uids
from e2e.support.ground import Ground
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.images import NEXT_TAG
from testkit.support.kube import EVENTS, Object
from testkit.support.node import kill_worker
from testkit.support.together import together
from testkit.support.waiting import until

from flowworker_operator.cluster.errors import Unavailable

FEW_SLOTS = {"maxConcurrency": 3, "batchSize": 3}
RERUN_WITHIN = 20.0
"""Seconds from a worker's death to the next execution of what it held."""


@together
async def test_an_image_rollout_under_load_repeats_nothing_although_tasks_outlast_its_steps(stage: Stage) -> None:
    async with Ground.prepare(stage, "rollout", single, budget=300) as ground:
        worker = ground.flowworker(single, worker=FEW_SLOTS, scaling={"minReplicas": 3, "maxReplicas": 3})
        await worker.apply()
        old = await worker.is_at(3)
        await ground.start_runs(single, 45, Plan(seconds=5))
        await ground.began(9)
        async with worker.observed() as frames:
            await worker.apply(image=f"localhost/flowworker:{NEXT_TAG}")
            await worker.becomes("Progressing", "True", "Complete", patience=120)
            executions = await ground.conclude()
        new = await worker.is_at(3)
        assert not uids(old.pods) & uids(new.pods)
        assert [one.attempt for one in executions] == [1] * 45
        assert {one.worker for one in executions} >= names(old.pods)
        assert min(frame.ready() for frame in frames) >= 3
        assert max(len(uids(living(frame))) for frame in frames) <= 4


@together
async def test_an_evicted_worker_finishes_what_it_runs(stage: Stage) -> None:
    async with Ground.prepare(stage, "eviction", single, budget=240) as ground:
        worker = ground.flowworker(single, worker=FEW_SLOTS, scaling={"minReplicas": 2, "maxReplicas": 2})
        await worker.apply()
        before = await worker.is_at(2)
        await ground.start_runs(single, 24, Plan(seconds=4))
        await ground.began(6)
        leaving = before.pods[0]["metadata"]["name"]
        await evict(ground, leaving)
        executions = await ground.conclude()
        after = await worker.is_at(2)
        assert leaving in {one.worker for one in executions}
        assert leaving not in names(after.pods)
        assert [one.attempt for one in executions] == [1] * 24


@together
async def test_a_container_that_restarts_during_its_drain_stays_drained(stage: Stage) -> None:
    async with Ground.prepare(stage, "restart", single, budget=240) as ground:
        worker = ground.flowworker(
            single, worker={"maxConcurrency": 2, "batchSize": 1}, scaling={"mode": "External"}, replicas=2
        )
        await worker.apply()
        await worker.is_at(2)
        await ground.start_runs(single, 4, Plan(gate="go"))
        await ground.began(4)
        await worker.scale(1)
        victim = await draining(worker)
        name, began = victim["metadata"]["name"], time.monotonic_ns()
        await kill_worker(stage.cluster, victim)
        ground.fault("kill", name, began=began)
        left = await worker.is_at(1)
        assert name not in names(left.pods)
        states = await ground.database.fetch(
            "SELECT state, completed FROM flowworker.workers WHERE pod_name = $1 ORDER BY started_at", name
        )
        assert len(states) == 2, "the container has started again"
        await ground.open_gate("go")
        executions = await ground.conclude(repeats=2)
        assert len([one for one in executions if one.worker == name]) == 2, "those from before the restart"
        assert {one.attempt for one in executions} == {1}


@together
async def test_work_of_a_killed_worker_is_finished_by_others(stage: Stage) -> None:
    async with Ground.prepare(stage, "kill", single, budget=240) as ground:
        worker = ground.flowworker(single, worker=FEW_SLOTS, scaling={"minReplicas": 2, "maxReplicas": 2})
        await worker.apply()
        pods = (await worker.is_at(2)).pods
        await ground.start_runs(single, 24, Plan(seconds=3))
        await ground.began(6)
        name, began = pods[0]["metadata"]["name"], time.monotonic_ns()
        await kill_worker(stage.cluster, pods[0])
        ground.fault("kill", name, began=began, rerun_within=RERUN_WITHIN)
        executions = await ground.conclude(repeats=3)
        assert {one.attempt for one in executions} == {1}
        await worker.is_at(2)
        if not stage.disturbed:  # an operator that starts later has not seen it
            await until(lambda: has_event(worker, "WorkerRestarted", name), f"an event about {name}")


async def has_event(worker: FlowWorker, reason: str, pod: str) -> bool:
    """Whether an event of this reason names a pod."""
    events = await worker.kube.list(EVENTS, worker.namespace)
    return any(one["reason"] == reason and pod in one.get("message", "") for one in events)


async def evict(ground: Ground, pod: str) -> None:
    """Evict a pod as soon as its budget allows it."""

    async def evicted() -> bool:
        try:
            await ground.kube.evict(ground.namespace, pod)
        except Unavailable:
            return False
        return True

    await until(evicted, f"{pod} may be evicted", every=1.0)


async def draining(worker: FlowWorker) -> Object:
    """The pod that drains, as soon as there is one."""

    def is_draining(frame: Frame) -> bool:
        return bool(drained_pods(frame))

    frame = await worker.shows("a worker that drains", is_draining)
    (name,) = drained_pods(frame)
    return next(pod for pod in frame.pods if pod["metadata"]["name"] == name)


def drained_pods(frame: Frame) -> set[str]:
    """Pods whose worker says that it drains."""
    listed = frame.status.get("workers", {}).get("list", ())
    return {one["pod"] for one in listed if one["state"] in {"draining", "drained"}}


def living(frame: Frame) -> list[Object]:
    """Pods that are not on their way out."""
    return [pod for pod in frame.pods if "deletionTimestamp" not in pod["metadata"]]
