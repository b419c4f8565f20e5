"""The right number of workers: from zero and back, on several databases, and in every mode."""

from contextlib import AsyncExitStack
from dataclasses import replace

from e2e.support.flowworker import Frame, uids
from e2e.support.ground import Ground
from e2e.support.postgres import Server
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, fan, jobs, single
from testkit.support.kube import Kube
from testkit.support.together import together
from testkit.support.waiting import hold_for

RUNS = 300
MOST = 5


@together
async def test_300_runs_from_zero_to_many_to_zero_are_each_done_exactly_once(stage: Stage) -> None:
    async with Ground.prepare(stage, "zero-n-zero", single, budget=300) as ground:
        worker = ground.flowworker(
            single,
            worker={"maxConcurrency": 20, "batchSize": 20},
            scaling={"maxReplicas": MOST, "tasksPerReplica": 40},
        )
        await worker.apply()
        await worker.becomes("Ready", "True", "Idle")
        await worker.is_at(0)
        async with worker.observed() as frames:
            await ground.start_runs(single, RUNS, Plan(seconds=1.5))
            executions = await ground.conclude()
            await worker.becomes("Ready", "True", "Idle")
            await worker.is_at(0)
        assert [one.attempt for one in executions] == [1] * RUNS
        assert len({one.worker for one in executions}) == MOST
        assert max(frame.desired or 0 for frame in frames) == MOST
        assert max(len(frame.pods) for frame in frames) == MOST


@together
async def test_a_database_that_is_switched_off_and_on_concerns_its_own_workers_only(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        other = await another_server(stage)
        near = await stack.enter_async_context(Ground.prepare(stage, "near", single, fan, jobs, budget=360))
        far = await stack.enter_async_context(Ground.prepare(replace(stage, server=other), "far", single, budget=360))
        neighbours = [near.flowworker(workload, scaling={"maxReplicas": 2}) for workload in (single, fan, jobs)]
        away = far.flowworker(single, scaling={"minReplicas": 1, "maxReplicas": 1})
        for worker in (*neighbours, away):
            await worker.apply()
        for worker in (*neighbours, away):
            await worker.becomes("Ready", "True")
        pods = (await away.is_at(1)).pods
        await far.start_runs(single, 10, Plan(seconds=2))
        await far.began(5)
        await other.switch(far.kube, on=False)
        await away.becomes("DatabaseReachable", "False", "DatabaseUnreachable")
        async with away.observed() as frames:
            await near.start_runs(single, 10, Plan(seconds=0.5))
            await near.start_runs(fan, 5, [Plan(seconds=0.5)] * 3)
            await near.send_jobs(jobs, 10, Plan(seconds=0.5))
            await near.conclude()
        for worker in neighbours:
            await worker.becomes("DatabaseReachable", "True")
        assert all(uids(frame.pods) == uids(pods) for frame in frames)
        await other.switch(far.kube, on=True)
        await away.becomes("DatabaseReachable", "True")
        await far.conclude()


@together
async def test_kubectl_scale_rules_in_mode_external_and_changes_of_mode_do_not_jump(stage: Stage) -> None:
    async with Ground.prepare(stage, "external", single, budget=300) as ground:
        worker = ground.flowworker(single, scaling={"tasksPerReplica": 5})
        await worker.apply()
        await worker.becomes("Ready", "True", "Idle")
        await ground.start_runs(single, 15, Plan(gate="go"))
        three = await worker.is_at(3)
        async with worker.observed() as frames:
            await worker.apply(scaling={"mode": "External"})
            await worker.shows("External", lambda frame: frame.status["scaling"]["mode"] == "External")
            await hold_for(5)
            assert (await worker.read())["spec"]["replicas"] == 3
            await worker.apply(scaling={"mode": "Auto"})
            await worker.shows("Auto", lambda frame: frame.status["scaling"]["mode"] == "Auto")
            await hold_for(5)
        assert all(uids(frame.pods) == uids(three.pods) for frame in frames)
        await worker.apply(scaling={"mode": "External"})
        await worker.shows("External", lambda frame: frame.status["scaling"]["mode"] == "External")
        scale = ("--namespace", ground.namespace, "scale", f"flowworker/{worker.name}")
        await stage.programs.kubectl(*scale, "--replicas=4")
        await worker.is_at(4)
        await ground.open_gate("go")
        await stage.programs.kubectl(*scale, "--replicas=1")
        await worker.is_at(1)
        await ground.conclude()
        await worker.apply(scaling={"mode": "Auto"})
        await worker.is_at(0)


@together
async def test_paused_changes_nothing_and_a_dry_run_only_reports(stage: Stage) -> None:
    async with Ground.prepare(stage, "modes", single, budget=240) as ground:
        worker = ground.flowworker(single, scaling={"tasksPerReplica": 5})
        await worker.apply()
        await worker.becomes("Ready", "True", "Idle")
        await worker.is_at(0)
        await worker.apply(scaling={"mode": "Paused"})
        await worker.shows("Paused", lambda frame: frame.status["scaling"]["reason"] == "Paused")
        async with worker.observed() as frames:
            await ground.start_runs(single, 12, Plan(seconds=0.5))
            await worker.shows("the backlog", sees_backlog)
            assert (await worker.status())["scaling"]["desired"] == 0
            await worker.apply(scaling={"mode": "DryRun"})
            await worker.shows("what it would do", lambda frame: frame.desired == 3)
        assert not any(frame.pods for frame in frames)
        await worker.apply(scaling={"mode": "Auto"})
        executions = await ground.conclude()
        assert [one.attempt for one in executions] == [1] * 12
        await worker.is_at(0)


def sees_backlog(frame: Frame) -> bool:
    """The status shows all the work."""
    return frame.status.get("queue", {}).get("startable") == 12


async def another_server(stage: Stage) -> Server:
    """A second PostgreSQL, which stays: a node of ours has few volumes."""
    server = Server(namespace="e2e-postgres-2")
    async with Kube.connect(stage.kubeconfig) as kube:
        await server.deploy(kube)
    await server.prepare(stage.programs)
    return server
