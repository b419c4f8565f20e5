"""The life of a FlowWorker: applied, wrong, repaired, changed, deleted."""

from e2e.support.flowworker import FlowWorker, Frame, uids
from e2e.support.ground import IMAGE, Ground
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.together import together
from testkit.support.waiting import until

COLUMNS = ["NAME", "FLOW", "DESIRED", "READY", "BACKLOG", "INFLIGHT", "STATUS", "AGE"]


@together
async def test_an_applied_resource_becomes_ready(stage: Stage) -> None:
    async with Ground.prepare(stage, "apply", single, budget=180) as ground:
        worker = ground.flowworker(single, scaling={"minReplicas": 1})
        await stage.programs.kubectl("apply", "--filename", "-", stdin=worker.manifest)
        await kubectl_wait(stage, worker)
        frame = await worker.shows("a running worker in its status", runs_one)
        assert frame.status["observedGeneration"] == (await worker.read())["metadata"]["generation"]
        assert (frame.status["replicas"], frame.status["readyReplicas"]) == (1, 1)
        table = await stage.programs.kubectl("--namespace", ground.namespace, "get", "flowworkers")
        assert table.splitlines()[0].split() == COLUMNS
        assert table.splitlines()[1].split()[:-1] == ["single", "single", "1", "1", "0", "0", "Running"]
        await ground.start_runs(single, 3, Plan())
        await ground.conclude()


@together
async def test_a_wrong_resource_says_what_is_wrong_and_the_next_apply_repairs_it(stage: Stage) -> None:
    async with Ground.prepare(stage, "wrong", single, budget=240) as ground:
        worker = ground.flowworker(single, handler="flows:nothing")
        await worker.apply()
        assert "nothing" in (await worker.becomes("Ready", "False", "BadHandler"))["message"]
        await worker.apply(handler="flows:single", database={"secretRef": {"name": "missing"}})
        assert "missing" in (await worker.becomes("Ready", "False", "BadSecret"))["message"]
        await worker.apply(database={"secretRef": {"name": "database"}})
        await worker.becomes("Ready", "True")
        await ground.start_runs(single, 3, Plan())
        await ground.conclude()


@together
async def test_an_apply_at_zero_replicas_proves_the_revision_and_returns_to_zero(stage: Stage) -> None:
    async with Ground.prepare(stage, "at-zero", single, budget=180) as ground:
        worker = ground.flowworker(single)
        async with worker.observed() as frames:
            await worker.apply()
            await worker.becomes("Ready", "True", "Idle")
            first = (await worker.is_at(0)).status["revision"]
            await worker.apply(template=worker.template_with(ANOTHER="revision"))
            await worker.becomes("Ready", "True", "Idle")
            second = (await worker.is_at(0)).status["revision"]
        assert first["proven"]
        assert second["proven"]
        assert first["current"] != second["current"]
        assert max(len(frame.pods) for frame in frames) <= 1


@together
async def test_a_new_revision_that_cannot_start_leaves_the_old_one_at_full_strength(stage: Stage) -> None:
    async with Ground.prepare(stage, "bad-revision", single, budget=240) as ground:
        worker = ground.flowworker(single, scaling={"minReplicas": 2}, rollout={"progressDeadlineSeconds": 15})
        await worker.apply()
        await worker.becomes("Ready", "True", "Running")
        old = await worker.is_at(2)
        revision = old.status["revision"]["current"]
        async with worker.observed() as frames:
            await worker.apply(image="localhost/flowworker:missing")
            assert "missing" in (await worker.becomes("Progressing", "False", "ImagePull"))["message"]
            await ground.start_runs(single, 20, Plan(seconds=0.5))
            await ground.conclude()
        assert {frame.ready(revision) for frame in frames} == {2}
        assert all(uids(old.pods) <= uids(frame.pods) for frame in frames)
        await worker.apply(image=IMAGE)
        await worker.becomes("Ready", "True", "Running")
        assert uids((await worker.is_at(2)).pods) == uids(old.pods)


@together
async def test_a_delete_under_load_finishes_what_runs_and_starts_nothing_more(stage: Stage) -> None:
    async with Ground.prepare(stage, "delete", single, budget=240) as ground:
        worker = ground.flowworker(single, worker={"maxConcurrency": 3, "batchSize": 3}, scaling={"minReplicas": 2})
        await worker.apply()
        await worker.is_at(2)
        await ground.start_runs(single, 30, Plan(seconds=3))
        await ground.began(6)
        await worker.delete()
        await worker.vanishes()
        assert await ground.running() == []
        assert await ground.database.value("SELECT count(*) FROM pgflow.step_tasks WHERE status = 'queued'") > 0
        await worker.apply()
        executions = await ground.conclude()
        assert [one.attempt for one in executions] == [1] * 30


@together
async def test_a_rotated_secret_is_followed_without_new_pods(stage: Stage) -> None:
    async with Ground.prepare(stage, "rotation", single, budget=300) as ground:
        before, after = await ground.create_role(), await ground.create_role()
        await ground.write_secret(before.dsn)
        worker = ground.flowworker(single, scaling={"minReplicas": 1})
        await worker.apply()
        await worker.becomes("Ready", "True", "Running")
        pods = (await worker.is_at(1)).pods
        await ground.write_secret(after.dsn)
        await ground.secret_reaches(pods[0], after.name)
        await before.lock()
        await ground.start_runs(single, 5, Plan(seconds=0.5))
        await ground.conclude()
        await worker.becomes("DatabaseReachable", "True")
        assert uids((await worker.is_at(1)).pods) == uids(pods)

        async def both_use_it() -> bool:
            return len(await after.users()) == 2

        # The operator reads a Secret again within a minute, while its connection works.
        await until(both_use_it, "worker and operator use the new role", patience=90, every=0.5)


def runs_one(frame: Frame) -> bool:
    """The one worker has reported that it runs."""
    return [one["state"] for one in frame.status.get("workers", {}).get("list", ())] == ["running"]


async def kubectl_wait(stage: Stage, worker: FlowWorker) -> None:
    """Wait for Ready as a user's script does."""
    await stage.programs.kubectl(
        *("--namespace", worker.namespace, "wait", "--for=condition=Ready", f"flowworker/{worker.name}"),
        "--timeout=60s",
        deadline=70,
    )
