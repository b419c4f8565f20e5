"""The ground a scenario happens on: a namespace and a database of its own, work, faults, and the verdict at the end."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias
from uuid import UUID, uuid4

import orjson
from e2e.support.artefacts import keep
from e2e.support.evidence import judge
from e2e.support.flowworker import DATABASE, FLOWS, FlowWorker, make_spec
from e2e.support.postgres import RESTRICTED, Database, Role
from e2e.support.release import complaints
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan
from testkit.support import recording
from testkit.support.evidence import Testimony
from testkit.support.history import Execution, Fault
from testkit.support.images import TAG
from testkit.support.kube import CONFIG_MAPS, FLOWWORKERS, NAMESPACES, PODS, SECRETS, Kube, Object
from testkit.support.waiting import until

from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled, ensure_queue
from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.worker_options import CompileMode

Workload: TypeAlias = Flow | Queue

HANDLERS = Path(__file__).resolve().parents[1] / "workloads" / "flows.py"
IMAGE = f"localhost/flowworker:{TAG}"
DATABASE_FILE = "/var/run/flowworker/database/uri"
WORK_PATIENCE = 90.0
SECRET_PATIENCE = 120.0
SECOND = 1_000_000_000

START = """
    SELECT count(*) FROM unnest($2::uuid[]) AS id, LATERAL pgflow.start_flow($1, $3, id)
    WHERE NOT EXISTS (SELECT FROM pgflow.runs WHERE run_id = id)
"""
ENDED = "SELECT count(*) FROM pgflow.runs WHERE run_id = ANY($1) AND status IN ('completed', 'failed')"


@dataclass(slots=True, kw_only=True)
class Ground:
    """One scenario's world. Use it as `async with Ground.prepare(…) as ground`."""

    stage: Stage
    kube: Kube
    namespace: str
    database: Database
    workloads: Sequence[Workload]
    runs: set[UUID] = field(default_factory=set[UUID])
    jobs: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    faults: list[Fault] = field(default_factory=list[Fault])
    _flowworkers: dict[str, FlowWorker] = field(default_factory=dict[str, FlowWorker])

    @classmethod
    @asynccontextmanager
    async def prepare(cls, stage: Stage, title: str, *workloads: Workload, budget: float) -> AsyncGenerator[Self]:
        """A fresh namespace and database, which is removed from the cluster afterwards.

        At a good end the operator must have logged no error about the scenario, and have gone on without a restart.

        Args:
            stage: of the session.
            title: short, for the name of the namespace.
            workloads: what the database shall have.
            budget: seconds that the scenario may take.
        """
        namespace = f"{re.sub('[^a-z0-9]+', '-', title.lower())[:40]}-{uuid4().hex[:5]}"
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(asyncio.timeout(budget))
            kube = await stack.enter_async_context(Kube.connect(stage.kubeconfig))
            way = await stack.enter_async_context(stage.server.reached(stage.programs))
            ground = cls(
                stage=stage,
                kube=kube,
                namespace=namespace,
                database=await Database.create(way),
                workloads=workloads,
            )
            before = await stage.release.incarnations(kube)
            await ground._create()
            stack.push_async_callback(ground._remove)
            try:
                yield ground
                await ground._look_at_operator(before)
            except BaseException:
                await keep(stage.programs, namespace)
                raise

    async def _create(self) -> None:
        await self.kube.apply(NAMESPACES, None, {"metadata": {"name": self.namespace, "labels": RESTRICTED}})
        handlers: Object = {"metadata": {"name": FLOWS}, "data": {"flows.py": HANDLERS.read_text()}}
        await self.kube.apply(CONFIG_MAPS, self.namespace, handlers)
        await self.write_secret(self.database.dsn)
        await self.database.ask(self._compile)

    async def _compile(self, connection: Connection) -> None:
        capabilities = await detect(connection)
        for workload in self.workloads:
            if isinstance(workload, Flow):
                await ensure_compiled(connection, workload, capabilities, mode=CompileMode.AUTO)
            else:
                await ensure_queue(connection, workload, capabilities, mode=CompileMode.AUTO)
                await recording.record_queue(connection, workload.name)

    async def _remove(self) -> None:
        """In an order in which nothing misses what is gone; the namespace goes on its own."""
        for resource in await self.kube.list(FLOWWORKERS, self.namespace):
            await self.kube.delete(FLOWWORKERS, self.namespace, resource["metadata"]["name"])
        for pod in await self.kube.list(PODS, self.namespace):
            await self.kube.delete(PODS, self.namespace, pod["metadata"]["name"], grace=0)
        await self.kube.delete(NAMESPACES, None, self.namespace)

    # What the user does

    async def write_secret(self, dsn: str, name: str = DATABASE) -> None:
        """Put a connection string where FlowWorkers look for it."""
        await self.kube.apply(SECRETS, self.namespace, {"metadata": {"name": name}, "stringData": {"uri": dsn}})

    def flowworker(self, workload: Workload, name: str = "", **changes: Any) -> FlowWorker:
        """A FlowWorker that is not applied yet."""
        slug = workload.slug if isinstance(workload, Flow) else workload.name
        spec = make_spec(workload, image=IMAGE, **changes)
        made = FlowWorker(kube=self.kube, namespace=self.namespace, name=name or slug, spec=spec)
        self._flowworkers[made.name] = made
        return made

    async def start_runs(self, flow: Flow, number: int, plan: Plan | Sequence[Plan]) -> list[UUID]:
        """Start runs in one statement, and remember that their start was acknowledged."""
        ids = [uuid4() for _ in range(number)]
        value = plan.model_dump() if isinstance(plan, Plan) else [one.model_dump() for one in plan]
        await self.database.value(START, flow.slug, ids, orjson.dumps(value))
        self.runs.update(ids)
        return ids

    async def send_jobs(self, queue: Queue, number: int, plan: Plan) -> None:
        """Send jobs, one statement each."""
        for _ in range(number):
            sent = await self.database.value("SELECT pgmq.send($1, $2)", queue.name, orjson.dumps(plan.model_dump()))
            self.jobs.setdefault(queue.name, set()).add(sent)

    async def open_gate(self, name: str) -> None:
        """Let handlers pass that wait for it."""
        await self.database.fetch("INSERT INTO e2e.gates VALUES ($1) ON CONFLICT DO NOTHING RETURNING name", name)

    async def create_role(self, password: str = "") -> Role:
        """Another role that workers may connect as; its password is the server's unless one is given."""
        return await Role.create(self.database, password)

    async def secret_reaches(self, pod: Object, text: str) -> None:
        """Wait until a pod's file with the connection string has this text.

        Kubelet looks into Secrets now and then; a change of the pod makes it look at once.
        """
        name = pod["metadata"]["name"]
        inside = ("--namespace", self.namespace, "exec", name, "--container", "worker", "--")

        async def has_text() -> bool:
            poke = {"metadata": {"annotations": {"e2e/poke": uuid4().hex}}}
            await self.kube.patch(PODS, self.namespace, name, poke)
            return text in await self.stage.programs.kubectl(*inside, "cat", DATABASE_FILE)

        await until(has_text, f"the secret has reached {name}", patience=SECRET_PATIENCE, every=1.0)

    # What happened

    async def began(self, number: int, *, worker: str | None = None, patience: float = WORK_PATIENCE) -> None:
        """Wait for so many executions, of one pod or of all."""
        statement = "SELECT count(*) FROM e2e.journal WHERE what = 'begin' AND ($1::text IS NULL OR worker = $1)"

        async def enough() -> bool:
            return await self.database.value(statement, worker) >= number

        await until(enough, f"{number} executions by {worker or 'anybody'}", patience=patience, every=0.3)

    async def running(self) -> list[dict[str, Any]]:
        """Executions that have begun and not ended: `worker`, `execution`, `owner`."""
        return await self.database.fetch(
            "SELECT worker, execution, owner FROM e2e.journal GROUP BY 1, 2, 3 HAVING count(*) = 1"
        )

    async def finished(self, number: int, *, patience: float = WORK_PATIENCE) -> None:
        """Wait until so many of the runs have ended."""

        async def enough() -> bool:
            return await self.database.value(ENDED, list(self.runs)) >= number

        await until(enough, f"{number} of {len(self.runs)} runs have ended", patience=patience, every=0.3)

    def fault(self, name: str, *pods: str, began: int, rerun_within: float | None = None) -> None:
        """Put on record a kill between then and now: it explains duplicates and deaths, and sets a deadline."""
        ended, workers = time.monotonic_ns(), frozenset(pods) or None
        self.faults.append(
            Fault(name=name, began=began, ended=ended, workers=workers, rerun_within=rerun_within, lasts=True)
        )

    # The verdict

    async def drained(self, *, patience: float = WORK_PATIENCE) -> None:
        """Wait until every run and job has ended."""
        await self.finished(len(self.runs), patience=patience)
        for queue in self.jobs:

            async def is_empty(queue: str = queue) -> bool:
                return not await self.database.value(f"SELECT count(*) FROM pgmq.q_{queue}")

            await until(is_empty, f"all jobs of {queue} have ended", patience=patience, every=0.3)

    async def conclude(self, *, patience: float = WORK_PATIENCE, repeats: int = 0) -> list[Execution]:
        """Drain and judge; gives every execution there was.

        Args:
            patience: seconds until everything must have ended.
            repeats: how many executions may be another one of the same attempt, for a fault.
        """
        await self.drained(patience=patience)
        started = {*map(str, self.runs), *(f"{queue}:{number}" for queue, sent in self.jobs.items() for number in sent)}
        known = Testimony(started=started, in_doubt=(), faults=self.faults)

        async def work(connection: Connection) -> tuple[list[str], list[Execution]]:
            violations, executions = await judge(connection, self.workloads, known)
            return [str(violation) for violation in violations], executions

        problems, executions = await self.database.ask(work)
        again = len(executions) - len({(one.key, one.attempt) for one in executions})
        if again > repeats:
            problems.append(f"{again} executions were not the first of their attempt; {repeats} were allowed")
        failed = await self.database.value("SELECT count(*) FROM pgflow.runs WHERE status = 'failed'")
        if failed:
            problems.append(f"{failed} runs have failed")
        assert not problems, "\n".join(problems)
        return executions

    async def _look_at_operator(self, before: dict[str, int]) -> None:
        found = complaints(await self.stage.release.log(self.kube), self.namespace)
        assert not found, "\n".join(found)
        if not self.stage.disturbed:
            assert await self.stage.release.incarnations(self.kube) == before, "the operator was restarted"
