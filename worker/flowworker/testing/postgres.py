"""Real PostgreSQL for tests: a server for the session, and a fresh database with everything installed for each test."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import urlsplit
from uuid import uuid4

from flowworker.client import Client
from flowworker.database.connection import Connection, connect
from flowworker.database.databases import create_database, drop_database
from flowworker.database.install import install
from flowworker.database.local_server import DEVELOPMENT_SETTINGS, LocalServer
from flowworker.database.runs import Run
from flowworker.definition.flow import Flow
from flowworker.runtime.pool import WorkerPool
from flowworker.runtime.workload import Workload
from flowworker.testing.blocking import run_blocking
from flowworker.worker_options import SharedArguments

SERVER_VARIABLE = "FLOWWORKER_TEST_DATABASE_URL"
"""A server whose role may create databases; unset: the embedded PostgreSQL of the extra `dev`."""

APPLICATION_NAME = "flowworker-testing"


@dataclass(frozen=True, slots=True)
class FlowDatabase:
    """A database of one test, with pgmq, pgflow and FlowWorker's own schema; gone when the test is over."""

    dsn: str

    @asynccontextmanager
    async def worker(self, *workloads: Workload, **options: Unpack[SharedArguments]) -> AsyncGenerator[WorkerPool]:
        """Workers for flows and queues, stopped at the end of the block; creates in the database what is missing.

        Args:
            *workloads: flows and queues.
            **options: of `WorkerPool`. Polls every 50 ms unless they say otherwise.
        """
        quick = SharedArguments(min_poll_interval=0.05, max_poll_interval=0.05)
        quick.update(options)
        async with WorkerPool(workloads, dsn=self.dsn, name=f"test_{uuid4().hex[:8]}", **quick) as pool:
            yield pool

    def client(self) -> Client:
        """A client of this database, to be used in `async with`."""
        return Client(self.dsn)

    def run_flow(
        self,
        flow: Flow,
        input: Any,  # noqa: A002 - pgflow's word
        *,
        timeout: float = 30.0,
        **options: Unpack[SharedArguments],
    ) -> Run:
        """Start workers, run a flow once, and stop the workers.

        Args:
            flow: the flow.
            input: the run's input.
            timeout: seconds until it must have ended.
            **options: of `WorkerPool`.

        Raises:
            TimeoutError: the run has not ended in time.
            UsageError: an event loop is running: use `run_flow_async`.
        """
        return run_blocking(self.run_flow_async(flow, input, timeout=timeout, **options), "flow_db.run_flow")

    async def run_flow_async(
        self,
        flow: Flow,
        input: Any,  # noqa: A002 - pgflow's word
        *,
        timeout: float = 30.0,
        **options: Unpack[SharedArguments],
    ) -> Run:
        """Do what `run_flow` does, in a test that is a coroutine."""
        async with self.worker(flow, **options), self.client() as client:
            run = await client.start(flow, input)
            return await client.wait(run.run_id, timeout=timeout)


class FlowServer:
    """A server on which databases of tests are made, as copies of one that has everything installed."""

    def __init__(self, dsn: str) -> None:
        """Take the connection string of a role that may create databases."""
        self._dsn = dsn
        self._template: str | None = None

    @contextmanager
    def database(self) -> Generator[FlowDatabase]:
        """A new database, dropped at the end of the block."""
        name = _new_name("test")
        _in_own_thread(self._create(name))
        try:
            yield FlowDatabase(_with_database(self._dsn, name))
        finally:
            _in_own_thread(self._drop(name))

    def close(self) -> None:
        """Drop what databases were copied from."""
        if self._template is not None:
            _in_own_thread(self._drop(self._template))

    async def _create(self, name: str) -> None:
        if self._template is None:
            self._template = await self._make_template()
        async with _connection(self._dsn) as admin:
            await create_database(admin, name, template=self._template)

    async def _make_template(self) -> str:
        name = _new_name("template")
        async with _connection(self._dsn) as admin:
            await create_database(admin, name)
        async with _connection(_with_database(self._dsn, name)) as connection:
            await install(connection)
        return name

    async def _drop(self, name: str) -> None:
        async with _connection(self._dsn) as admin:
            await drop_database(admin, name)


@contextmanager
def flow_server() -> Generator[FlowServer]:
    """The server named by the environment, or an embedded one that lives as long as the block."""
    if chosen := os.environ.get(SERVER_VARIABLE):
        server = FlowServer(chosen)
        yield server
        server.close()
        return
    with tempfile.TemporaryDirectory(prefix="flowworker-testing-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as an unprivileged user when we are root
        with LocalServer(directory=Path(folder) / "server", settings=DEVELOPMENT_SETTINGS) as local:
            yield FlowServer(local.dsn())


@asynccontextmanager
async def _connection(dsn: str) -> AsyncGenerator[Connection]:
    connection = await connect(dsn, application_name=APPLICATION_NAME)
    try:
        yield connection
    finally:
        await connection.close()


def _new_name(purpose: str) -> str:
    return f"flowworker_{purpose}_{uuid4().hex[:12]}"


def _with_database(dsn: str, name: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def _in_own_thread(work: Coroutine[Any, Any, None]) -> None:
    """Fixtures are set up inside and outside of running event loops, depending on the plugin that runs the test."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
