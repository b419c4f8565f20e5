"""A PostgreSQL server for chaos scenarios, and the ground it offers to each."""

import asyncio
import tempfile
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from testkit.support import recording
from tests.chaos.ground import Ground
from tests.conftest import WORKER_ROLE, create_database, create_roles, install_everything, make_server

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

OWN_ROLES = ("flowworker_first", "flowworker_second", "flowworker_third")


@dataclass(frozen=True, slots=True)
class Arena:
    """A server, and what the databases of its scenarios are copied from."""

    server: LocalServer
    template: str

    def ground(self, *workloads: Flow | Queue) -> AbstractAsyncContextManager[Ground]:
        """A scenario's own ground, with these flows and queues."""
        return Ground.prepare(self.server, self.template, *workloads)


@contextmanager
def new_arena(**settings: str) -> Generator[Arena]:
    """An arena with a running server of its own, whose commits have times; `settings` are more of PostgreSQL's."""
    with tempfile.TemporaryDirectory(prefix="flowworker-chaos-") as folder:
        Path(folder).chmod(0o755)
        plain = make_server(Path(folder) / "server")
        with replace(plain, settings={**plain.settings, **recording.SERVER_SETTINGS, **settings}) as server:
            yield Arena(server, asyncio.run(_make_template(server)))


async def create_own_roles(server: LocalServer) -> None:
    """Create roles with a worker's rights, each for the processes of one name: sessions show whose they are."""
    admin = await connect(server.dsn(), application_name="test")
    try:
        for role in OWN_ROLES:
            await admin.execute(f"CREATE ROLE {role} LOGIN IN ROLE {WORKER_ROLE}")
    finally:
        await admin.close()


async def _make_template(server: LocalServer) -> str:
    """A database with everything installed, to be copied."""
    await create_roles(server)
    await create_own_roles(server)
    database = await create_database(server, "chaos_template")
    await install_everything(database)
    return database.name
