"""Shrinking, replacing and deleting never cost a task that runs."""

from testkit.support.waiting import hold_for
from tests.chaos.workloads import TIMEOUT, Plan, jobs, single
from tests.control_plane.operator.world import FLOWWORKERS, PODS, SHORT, Object, World

from flowworker.database.probe import SILENCE
from flowworker_operator.domain.grace import MARGIN, UNKNOWN_TIMEOUT
from flowworker_operator.domain.naming import DELETION_COST, DELETION_COST_ANNOTATION

REPLICA_SETS = "/apis/apps/v1/namespaces/{namespace}/replicasets"


async def busy_workers(world: World, number: int) -> None:
    """So many workers of which each runs two tasks that wait for gates of their own."""
    await world.apply("report", scaling={**SHORT, "maxReplicas": number, "tasksPerReplica": 2})
    await world.until_condition("report", "Ready", "True")
    for _ in range(2 * number):
        await world.ground.start_run(single, Plan(gate="go"))
    await world.until_replicas("report", number)
    await world.ground.began(2 * number)


async def test_a_worker_that_is_to_go_finishes_first(world: World) -> None:
    await world.apply("report", scaling={"mode": "External"}, replicas=3)
    await world.until_replicas("report", 3)
    for _ in range(6):
        await world.ground.start_run(single, Plan(gate="go"))
    began = await world.ground.began(6)
    await world.patch(FLOWWORKERS, "report", {"spec": {"replicas": 1}})
    chosen = await world.until_draining(2)
    assert await world.replicas("report") == 3
    for name in chosen:
        world.ground.open_gate("go", name)
    await world.until_replicas("report", 1)
    (staying,) = {execution.worker for execution in began} - set(chosen)
    await world.until_pods("report", {staying})
    world.ground.open_gate("go")
    await world.ground.conclude()


async def test_load_that_returns_takes_the_drain_back(world: World) -> None:
    await world.apply("report", scaling={"mode": "External"}, replicas=2)
    await world.until_replicas("report", 2)
    for _ in range(4):
        await world.ground.start_run(single, Plan(gate="go"))
    await world.ground.began(4)
    await world.patch(FLOWWORKERS, "report", {"spec": {"replicas": 1}})
    await world.until_draining(1)
    await world.patch(FLOWWORKERS, "report", {"spec": {"replicas": 2}})
    await world.until_draining(0)
    costs = [pod["metadata"]["annotations"].get(DELETION_COST_ANNOTATION) for pod in await world.list(PODS)]
    assert DELETION_COST not in costs
    world.ground.open_gate("go")
    await world.ground.conclude()


async def test_a_new_image_under_load_costs_no_attempt(world: World) -> None:
    await busy_workers(world, 2)
    (old,) = await world.deployments("report")
    await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:next"}})
    await world.until_condition("report", "Ready", "False", "RollingOut")
    world.ground.open_gate("go")
    for _ in range(6):
        await world.ground.start_run(single, Plan(seconds=0.3))
    await world.ground.conclude()
    await world.until_idle("report", patience=60)
    (new,) = await world.deployments("report")
    assert new["metadata"]["name"] != old["metadata"]["name"]
    assert all(execution.attempt == 1 for execution in world.ground.executions())


async def test_a_new_revision_that_cannot_start_leaves_the_old_one_at_full_strength(world: World) -> None:
    await busy_workers(world, 2)
    await world.patch(FLOWWORKERS, "report", {"spec": {"handler": "no_such_module:flow"}})
    await world.until_condition("report", "Ready", "False", "BadHandler")
    world.ground.open_gate("go")
    for _ in range(4):
        await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.patch(FLOWWORKERS, "report", {"spec": {"handler": "tests.chaos.workloads:single"}})
    await world.until_condition("report", "Ready", "True")


async def test_a_deleted_resource_lets_its_workers_finish(world: World) -> None:
    await busy_workers(world, 1)
    await world.delete(FLOWWORKERS, "report")
    await world.until_deleting("report")
    world.ground.open_gate("go")
    await world.ground.conclude()
    assert all(execution.attempt == 1 for execution in world.ground.executions())
    await world.until_pods("report", set())


async def test_the_tasks_of_a_pod_that_is_gone_are_given_back_at_once(world: World) -> None:
    await busy_workers(world, 2)
    victim = (await world.ground.began(4))[0].worker
    await world.lose_pod(victim)
    world.ground.open_gate("go")
    await world.ground.conclude()


async def test_a_pod_deleted_by_force_whose_worker_lives_keeps_its_tasks(world: World) -> None:
    await busy_workers(world, 2)
    victim = (await world.ground.began(4))[0].worker
    await world.request("DELETE", f"{PODS}/{victim}", {"gracePeriodSeconds": 0})
    await world.until_replaced(victim)
    await hold_for(2 * SILENCE)
    assert await world.ground.owner.fetchval("SELECT state FROM flowworker.workers WHERE pod_name = $1", victim) in {
        "running", "draining",
    }  # fmt: skip
    world.ground.open_gate("go")
    await world.ground.conclude()
    assert all(execution.attempt == 1 for execution in world.ground.executions())


async def test_a_queue_with_a_long_timeout_gets_its_grace_period_once_no_worker_runs(world: World) -> None:
    await world.apply("mail", flow=None, queue="jobs", handler="tests.chaos.workloads:jobs")
    await world.until_condition("mail", "DrainsInTime", "True")
    await world.until_idle("mail")
    (found,) = await world.deployments("mail")
    deployment = await world.until_deployment(found["metadata"]["name"], _seen)
    assert (_grace(deployment), deployment["spec"]["replicas"]) == (TIMEOUT + MARGIN, 0)
    given = {_grace(one) for one in await world.list(REPLICA_SETS)}
    assert given == {UNKNOWN_TIMEOUT + MARGIN, TIMEOUT + MARGIN}, "the first pod came before anybody knew, and once"
    await world.ground.send(jobs, Plan(gate="go"))
    await world.ground.began(1)
    (pod,) = await world.list(PODS)
    assert pod["spec"]["terminationGracePeriodSeconds"] == TIMEOUT + MARGIN
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.until_idle("mail")
    (same,) = await world.deployments("mail")
    assert same["spec"]["template"] == deployment["spec"]["template"]


def _seen(deployment: Object) -> bool:
    return deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"]


def _grace(workload: Object) -> int:
    return workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
