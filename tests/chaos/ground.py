"""The ground a chaos scenario happens on: a recorded database, worker processes, faults, and the verdict at the end."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
from pydantic import BaseModel
from testkit.support import journal, recording
from testkit.support.checker import Violation, check
from testkit.support.evidence import Evidence, Testimony
from testkit.support.history import Execution, Fault
from testkit.support.processes import COMMAND_LINE, WorkerProcess
from testkit.support.proxy import Proxy
from testkit.support.waiting import PATIENCE, until
from tests.conftest import Database, create_database, drop_database

from flowworker.database.connection import Connection
from flowworker.database.local_server import LocalServer
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.host import Host
from flowworker.runtime.sources.opening import compile_workload
from flowworker.worker_options import CompileMode

SECOND = 1_000_000_000

ARTEFACTS_VARIABLE = "FLOWWORKER_TEST_ARTEFACTS"
"""Directory that keeps the journals and logs of failed scenarios; unset: they are removed."""

_numbers = count(1)


@dataclass(slots=True)
class Ground:
    """One scenario's world. Use it as `async with Ground.prepare(…) as ground`."""

    database: Database
    owner: Connection
    folder: Path
    proxy: Proxy
    """In front of the server; only workers that ask for it go through."""
    workloads: Sequence[Flow | Queue]
    workers: dict[str, WorkerProcess] = field(default_factory=dict[str, WorkerProcess])
    faults: list[Fault] = field(default_factory=list[Fault])
    started: set[str] = field(default_factory=set[str])
    in_doubt: set[str] = field(default_factory=set[str])
    roles: dict[str, str] = field(default_factory=dict[str, str])
    """Names of workers by the role that only they use."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    @asynccontextmanager
    async def prepare(cls, server: LocalServer, template: str, *workloads: Flow | Queue) -> AsyncGenerator[Self]:
        """A fresh database that has these flows and queues, recorded; everything is ended and gone afterwards."""
        database = await create_database(server, f"chaos_{next(_numbers)}", template)
        folder = Path(tempfile.mkdtemp(prefix="flowworker-chaos-"))
        (folder / journal.GATES).mkdir()
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, folder)
            stack.push_async_callback(drop_database, database)
            proxy = await stack.enter_async_context(Proxy(server.port))
            ground = cls(database, await database.connect(), folder, proxy, workloads, _stack=stack)
            stack.push_async_callback(ground._close_owner)
            try:
                await ground._create()
                yield ground
            except BaseException:
                ground.keep()
                raise

    async def _create(self) -> None:
        host = Host(self.database.dsn)
        for workload in self.workloads:
            await compile_workload(workload, links=host.links, mode=CompileMode.AUTO)
        await host.links.claim.close()
        await recording.install(self.owner)
        for workload in self.workloads:
            if isinstance(workload, Queue):
                await recording.record_queue(self.owner, workload.name)
            else:
                await recording.cancel_in_queue(self.owner, workload.slug)

    async def _close_owner(self) -> None:
        if not self.owner.is_closed():
            await self.owner.close()

    async def reconnect(self) -> None:
        """A new connection of the owner, after the server was gone."""
        self.owner.terminate()

        async def connect() -> "Connection | None":
            try:
                return await self.database.connect()
            except Exception:  # noqa: BLE001 - whatever is wrong with the server now, the deadline decides
                return None

        self.owner = await until(connect, "the server accepts connections")

    # Workers

    def worker(
        self, name: str, *references: str, through_proxy: bool = False, launcher: str = COMMAND_LINE,
        role: str | None = None, **settings: str,
    ) -> WorkerProcess:  # fmt: skip
        """A worker process, not started yet; `settings` are its environment, without the prefix.

        A `role` of its own (one of the arena's `OWN_ROLES`) shows which sessions and claims of jobs are this worker's.
        """
        dsn = self.database.worker_dsn
        if role is not None:
            dsn = self.database.server.dsn(self.database.name, role)
            self.roles[role] = name
        served = [f"tests.chaos.workloads:{reference}" for reference in references]
        worker = WorkerProcess(
            name=name,
            dsn=self.proxy.dsn(dsn) if through_proxy else dsn,
            folder=self.folder,
            arguments=tuple(served),
            launcher=launcher,
            settings={setting.upper(): value for setting, value in settings.items()},
        )
        self.workers[name] = worker
        self._stack.push_async_callback(worker.close)
        return worker

    async def start_workers(self, *workers: WorkerProcess) -> None:
        """Start workers side by side; return when all are ready."""
        await asyncio.gather(*(worker.start() for worker in workers))

    # Work

    @asynccontextmanager
    async def customer(self) -> AsyncGenerator[Connection]:
        """A connection of its own that starts runs and sends jobs."""
        connection = await self.database.connect()
        try:
            yield connection
        finally:
            connection.terminate()

    async def start_run(
        self, flow: Flow, plan: BaseModel | Sequence[BaseModel], *, connection: "Connection | None" = None
    ) -> UUID:
        """Start a run and remember that the start was acknowledged."""
        run_id = uuid4()
        value = plan.model_dump() if isinstance(plan, BaseModel) else [one.model_dump() for one in plan]
        self.in_doubt.add(str(run_id))
        await (connection or self.owner).execute(
            "SELECT run_id FROM pgflow.start_flow($1, $2, $3)", flow.slug, orjson.dumps(value), run_id
        )
        self.in_doubt.discard(str(run_id))
        self.started.add(str(run_id))
        return run_id

    async def send(self, queue: Queue, plan: BaseModel, *, connection: "Connection | None" = None) -> int:
        """Send a job."""
        msg_id: int = await (connection or self.owner).fetchval(
            "SELECT * FROM pgmq.send($1, $2)", queue.name, orjson.dumps(plan.model_dump())
        )
        self.started.add(f"{queue.name}:{msg_id}")
        return msg_id

    def open_gate(self, gate: str, worker: str | None = None) -> None:
        """Let handlers pass that wait for it, of all workers or of one."""
        (self.folder / journal.GATES / (gate if worker is None else f"{gate}@{worker}")).touch()

    async def task(self, run_id: UUID, step: str, index: int = 0) -> Mapping[str, Any]:
        """The row of one task."""
        row = await self.owner.fetchrow(
            "SELECT * FROM pgflow.step_tasks WHERE run_id = $1 AND step_slug = $2 AND task_index = $3",
            run_id, step, index,
        )  # fmt: skip
        assert row is not None
        return dict(row)

    async def reports(self) -> Sequence[Mapping[str, Any]]:
        """What the workers' incarnations say about themselves, oldest first."""
        return [dict(row) for row in await self.owner.fetch("SELECT * FROM flowworker.workers ORDER BY started_at")]

    # What happened

    def executions(self, *, worker: str | None = None, step: str | None = None) -> list[Execution]:
        """Executions so far, oldest first, of one worker or step or of all."""
        return [
            execution
            for execution in self._evidence.executions()
            if worker in {None, execution.worker} and step in {None, execution.key.step}
        ]

    async def began(
        self, number: int = 1, *, worker: str | None = None, step: str | None = None, patience: float = PATIENCE
    ) -> list[Execution]:
        """The executions once there are that many."""

        def enough() -> list[Execution] | None:
            found = self.executions(worker=worker, step=step)
            return found if len(found) >= number else None

        return await until(enough, f"{number} executions of {step} by {worker}", patience=patience)

    def fault(
        self,
        name: str,
        *workers: WorkerProcess,
        began: int,
        ended: int | None = None,
        rerun_within: float | None = None,
    ) -> None:
        """Put something on record that was done to the system: it explains duplicates and deaths, and sets a deadline.

        A kill has no `ended`: it lasts.
        """
        hit = frozenset(worker.name for worker in workers) or None
        last = began if ended is None else ended
        self.faults.append(Fault(name=name, began=began, ended=last, workers=hit, rerun_within=rerun_within))

    def excuse(self, fault: Fault) -> None:
        """Put something on record that was done to the system and explains only what its fields say."""
        self.faults.append(fault)

    # The verdict

    async def drained(self, *, patience: float = PATIENCE) -> None:
        """Wait until every run and job that was started has ended."""

        async def all_ended() -> bool:
            ends = await self._evidence.ends()
            return all(ends.get(owner, "started") != "started" for owner in self.started)

        try:
            await until(all_ended, "every run and job has ended", patience=patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; tasks: {await self._evidence.unfinished()}") from None

    async def verdict(self, *, jobs: bool = False) -> list[Violation]:
        """What the checker says about the runs so far, or about the jobs."""
        known = Testimony(started=self.started, in_doubt=self.in_doubt, faults=self.faults)
        return check(await self._evidence.history(known, jobs=jobs))

    async def conclude(self, *, patience: float = PATIENCE) -> None:
        """Drain, judge runs and jobs, and look into the logs of the workers."""
        await self.drained(patience=patience)
        problems = [str(violation) for violation in (*await self.verdict(), *await self.verdict(jobs=True))]
        for worker in self.workers.values():
            problems += [f"log of {worker.name}: {line}" for line in worker.complaints()]
        if problems:
            raise AssertionError("\n".join(problems))

    def keep(self) -> None:
        """Keep the logs and the journal of a failed scenario, where a folder is named for it."""
        if chosen := os.environ.get(ARTEFACTS_VARIABLE):
            shutil.copytree(self.folder, Path(chosen) / self.database.name, dirs_exist_ok=True)

    @property
    def _evidence(self) -> Evidence:
        return Evidence(self.owner, self.folder, self.workloads, self.roles)
