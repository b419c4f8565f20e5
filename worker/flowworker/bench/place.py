"""Where the benchmark runs: a database of its own, which is gone afterwards."""

import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from flowworker.bench.observing import APPLICATION_NAME, enable_statement_counts
from flowworker.bench.processes import warm_up
from flowworker.bench.throughput import Site
from flowworker.bench.workloads import chain, jobs, noop, stamp
from flowworker.database.connection import Connection, connect
from flowworker.database.databases import create_database, drop_database
from flowworker.database.install import install
from flowworker.database.link import Link, Links
from flowworker.database.local_server import LocalServer
from flowworker.runtime.sources.opening import compile_workload
from flowworker.worker_options import CompileMode

SERVER_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}
"""Nothing waits for the disk: a slow one would hide all differences. No checkpoint falls into a round."""


@contextmanager
def own_server() -> Generator[str]:
    """A new PostgreSQL server on this machine; gives the superuser's connection string."""
    with tempfile.TemporaryDirectory(prefix="flowworker-bench-") as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        with LocalServer(directory=Path(folder) / "server", settings=SERVER_SETTINGS) as server:
            yield server.dsn()


@asynccontextmanager
async def own_database(dsn: str) -> AsyncGenerator[Site]:
    """A new database on a server, with everything installed.

    Args:
        dsn: of a role that may create databases.

    Raises:
        MissingRightsError, DatabaseUnavailableError: as the server has it.
    """
    name = f"flowworker_bench_{uuid4().hex[:8]}"
    async with _connection(dsn) as administrator:
        await create_database(administrator, name)
    try:
        with tempfile.TemporaryDirectory(prefix="flowworker-bench-") as folder:
            async with _installed(urlsplit(dsn)._replace(path=f"/{name}").geturl(), Path(folder)) as site:
                yield site
    finally:
        async with _connection(dsn) as administrator:
            await drop_database(administrator, name)


@asynccontextmanager
async def _installed(dsn: str, folder: Path) -> AsyncGenerator[Site]:
    async with _connection(dsn) as observer:
        await install(observer)
        await enable_statement_counts(observer)
        await _compile(dsn)
        await warm_up(folder)
        yield Site(dsn=dsn, observer=observer, folder=folder)


async def _compile(dsn: str) -> None:
    link = Link(dsn, application_name=APPLICATION_NAME)
    for workload in (noop, stamp, chain, jobs):
        await compile_workload(
            workload, links=Links(claim=link, finish=link, aside=link, beat=link, pulse=link), mode=CompileMode.AUTO
        )
    await link.close()


@asynccontextmanager
async def _connection(dsn: str) -> AsyncGenerator[Connection]:
    connection = await connect(dsn, application_name=APPLICATION_NAME)
    try:
        yield connection
    finally:
        await connection.close()
