"""The operator itself is replaced and removed: workers go on. One at a time: all tests share the operator."""

from e2e.support.flowworker import uids
from e2e.support.ground import Ground
from e2e.support.release import NAMESPACE, SELECTOR
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.images import NEXT_TAG, TAG
from testkit.support.together import together
from testkit.support.waiting import until

AT_ONCE = 1
OURS = ("deployments", "pods", "services", "serviceaccounts", "roles", "rolebindings", "configmaps", "leases")
CLUSTER_WIDE = ("clusterroles", "clusterrolebindings")


@together
async def test_an_upgrade_of_the_operator_leaves_running_workers_alone(stage: Stage) -> None:
    async with Ground.prepare(stage.with_disturbance(), "upgrade", single, budget=300) as ground:
        worker = ground.flowworker(single, scaling={"minReplicas": 2})
        await worker.apply()
        await worker.becomes("Ready", "True", "Running")
        before = await worker.is_at(2)
        await ground.start_runs(single, 40, Plan(seconds=2))
        await ground.began(10)
        async with worker.observed() as frames:
            await stage.release.install(ground.kube, tag=NEXT_TAG)
            executions = await ground.conclude()
            await worker.shows("a status of the new operator", lambda frame: frame.status["queue"]["depth"] == 0)
        assert [one.attempt for one in executions] == [1] * 40
        assert all(uids(before.pods) <= uids(frame.pods) for frame in frames)
        assert uids((await worker.is_at(2)).pods) == uids(before.pods)
        await stage.release.install(ground.kube, tag=TAG)


@together
async def test_an_uninstall_leaves_the_resources_and_their_workers_and_removes_the_rest(stage: Stage) -> None:
    async with Ground.prepare(stage.with_disturbance(), "uninstall", single, budget=300) as ground:
        worker = ground.flowworker(single, scaling={"minReplicas": 1})
        await worker.apply()
        await worker.becomes("Ready", "True", "Running")
        before, resource = await worker.is_at(1), await worker.read()
        kubectl = stage.programs.kubectl
        try:
            await stage.release.uninstall()
            await until(lambda: gone(stage), "the operator's pods are gone", every=1.0)
            assert (await worker.read())["metadata"]["uid"] == resource["metadata"]["uid"]
            left = await kubectl("-n", NAMESPACE, "get", ",".join(OURS), "-l", "app.kubernetes.io/name=flowworker")
            assert left == ""
            left = await kubectl("get", ",".join(CLUSTER_WIDE), "-l", "app.kubernetes.io/name=flowworker")
            assert left == ""
            await ground.start_runs(single, 5, Plan(seconds=0.5))
            await ground.conclude()
            assert uids(await worker.pods()) == uids(before.pods)
        finally:
            await stage.release.install(ground.kube)
        await worker.becomes("Ready", "True", "Running")
        assert uids((await worker.is_at(1)).pods) == uids(before.pods)


async def gone(stage: Stage) -> bool:
    """Whether no pod of the operator is left."""
    return await stage.programs.kubectl("-n", NAMESPACE, "get", "pods", "-l", SELECTOR, "-o", "name") == ""
