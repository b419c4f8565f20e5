"""Fixtures shared by all tests: real PostgreSQL servers and databases made from a template.

Everything in a database belongs to `flowworker_owner`, a plain role that is no superuser. Workers connect as
`flowworker_worker`, which holds exactly the rights that `flowworker db install --role` grants.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from flowworker.database.connection import Connection, connect
from flowworker.database.grants import Profile, grant
from flowworker.database.install import install
from flowworker.database.local_server import DEVELOPMENT_SETTINGS, LocalServer, embedded_binaries
from flowworker.database.packaged import packaged_files

BINARIES_VARIABLE = "FLOWWORKER_TEST_POSTGRES_BIN"
"""Directory with another PostgreSQL's initdb, pg_ctl and postgres; unset: the embedded PostgreSQL."""

TEST_SETTINGS = {"synchronous_commit": "on", "deadlock_timeout": "100ms", "max_connections": "200"}
"""Commits survive a killed server, although not a killed machine."""

CATALOGUES = Path(__file__).parent / "catalogues"

REAL_CORE = Path(os.environ["FLOWWORKER_TEST_CORE"]) if "FLOWWORKER_TEST_CORE" in os.environ else None
"""The folder `0.14.1` with the migrations of that core: every database gets it, and no catalogue is used. Set by
`tools/real_cores.py`."""

OWNER_ROLE = "flowworker_owner"
WORKER_ROLE = "flowworker_worker"
ADMIN_ROLE = "flowworker_administrator"
"""Has the rights that `flowworker db install --admin-role` grants."""
STRANGER_ROLE = "flowworker_stranger"
"""May log in and nothing else."""

ROLES = f"""
    CREATE ROLE {OWNER_ROLE} LOGIN;
    CREATE ROLE {WORKER_ROLE} LOGIN;
    CREATE ROLE {ADMIN_ROLE} LOGIN;
    CREATE ROLE {STRANGER_ROLE} LOGIN;
    GRANT pg_signal_backend TO {OWNER_ROLE};
"""
"""Ending a worker's connection is how tests break it: hence pg_signal_backend."""

CORES = ("0.8", "0.10", "0.12", "0.13", "0.14", "0.15", "0.16", "0.17")
"""The catalogues of tests/catalogues; 0.8 is what we install."""

TESTED_CORES = CORES if REAL_CORE is None else (REAL_CORE.name.rpartition(".")[0],)

_numbers = count(1)

# No deadlines: how long an example takes depends on what else the machine does. Chance looks for new examples wherever
# people work; with CI set the examples are the same each time, so that a change fails for nothing but itself.
settings.register_profile(
    "flowworker", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("flowworker")


def pytest_configure() -> None:
    """Let every run begin alike, however it was started."""
    # Before a test without a loop, looptime asks for the thread's, which would make one that is never closed.
    asyncio.set_event_loop(None)
    # A shell lets what it starts in the background ignore Ctrl-C, and nohup a hangup; all that we start inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test server."""

    server: LocalServer
    name: str
    core: str = CORES[0]
    """The pgflow core that this database looks like."""

    @property
    def dsn(self) -> str:
        """Connection string of the owner: installs, compiles flows, creates queues."""
        return self.server.dsn(self.name, OWNER_ROLE)

    @property
    def worker_dsn(self) -> str:
        """Connection string of the role that workers use, with the least rights."""
        return self.server.dsn(self.name, WORKER_ROLE)

    @property
    def admin_dsn(self) -> str:
        """Connection string of the role that cancels, with the least rights."""
        return self.server.dsn(self.name, ADMIN_ROLE)

    @property
    def superuser_dsn(self) -> str:
        """Connection string of the server's superuser, for what no role of ours may do."""
        return self.server.dsn(self.name)

    async def connect(self) -> Connection:
        """Open a connection as the owner."""
        return await connect(self.dsn, application_name="test")

    async def connect_as_worker(self) -> Connection:
        """Open a connection with a worker's rights."""
        return await connect(self.worker_dsn, application_name="test")

    async def connect_as_stranger(self) -> Connection:
        """Open a connection with no rights in the database."""
        return await connect(self.server.dsn(self.name, STRANGER_ROLE), application_name="test")


def make_server(directory: Path) -> LocalServer:
    """A server that is not started yet, with the binaries under test."""
    chosen = os.environ.get(BINARIES_VARIABLE)
    return LocalServer(
        directory=directory,
        binaries=Path(chosen) if chosen else embedded_binaries(),
        settings={**DEVELOPMENT_SETTINGS, **TEST_SETTINGS},
        trust=True,
    )


async def create_database(server: LocalServer, name: str, template: str = "template1") -> Database:
    """Create a database that belongs to the owner."""
    admin = await connect(server.dsn(), application_name="test")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER_ROLE}")
    finally:
        await admin.close()
    return Database(server, name)


async def drop_database(database: Database) -> None:
    """Drop a database and end every connection to it."""
    admin = await connect(database.server.dsn(), application_name="test")
    try:
        await admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
    finally:
        await admin.close()


async def create_roles(server: LocalServer) -> None:
    """Create the roles of this module in a server that is new."""
    admin = await connect(server.dsn(), application_name="test")
    try:
        await admin.execute(ROLES)
    finally:
        await admin.close()


async def grant_roles(owner: Connection) -> None:
    """Give the roles of this module their rights."""
    await grant(owner, WORKER_ROLE)
    await grant(owner, ADMIN_ROLE, Profile.ADMINISTRATOR)


async def install_everything(database: Database) -> None:
    """Install as the owner and give the roles their rights."""
    owner = await database.connect()
    try:
        await install(owner)
        await grant_roles(owner)
    finally:
        await owner.close()


def _migrations(core: Path) -> list[str]:
    """What a real core has beyond the installed one, in order, without what its extensions' stand-ins make needless."""
    installed = {file.name for file in packaged_files()}
    return [
        "\n".join(line for line in file.read_text().splitlines() if not line.upper().startswith("CREATE EXTENSION"))
        for file in sorted(core.glob("*.sql"))
        if file.name not in installed
    ]


async def upgrade(database: Database, core: str) -> None:
    """Bring an installed database to a later core: the real one under test, else what looks like the one named."""
    if REAL_CORE is None:
        await apply_catalogues(database, core)
        return
    owner = await database.connect()
    try:
        await owner.execute((CATALOGUES / "extensions.sql").read_text())
        for migration in _migrations(REAL_CORE):
            async with owner.transaction():
                await owner.execute(migration)
        await owner.execute("RESET lock_timeout")
        await grant_roles(owner)
    finally:
        await owner.close()


async def apply_catalogues(database: Database, core: str) -> None:
    """Make an installed database look like a later core."""
    owner = await database.connect()
    try:
        for step in CORES[1 : CORES.index(core) + 1]:
            await owner.execute((CATALOGUES / f"{step}.sql").read_text())
        await grant_roles(owner)
    finally:
        await owner.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalServer]:
    """A running PostgreSQL server shared by the session; tests must not restart it."""
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as folder:
        Path(folder).chmod(0o755)
        with make_server(Path(folder) / "server") as server:
            asyncio.run(create_roles(server))
            yield server


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """A running server for one test, which may restart or kill it; it has the roles and no database of ours."""
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as folder:
        Path(folder).chmod(0o755)
        with make_server(Path(folder) / "server") as server:
            asyncio.run(create_roles(server))
            yield server


@pytest.fixture(scope="session")
def installed_template(postgres: LocalServer) -> str:
    """Name of a database with everything that we install, to be copied."""

    async def build() -> Database:
        database = await create_database(postgres, "flowworker_installed")
        await install_everything(database)
        return database

    return asyncio.run(build()).name


@pytest.fixture(scope="session")
def template(postgres: LocalServer, installed_template: str) -> str:
    """Name of a database to be copied: what we install, or that with the real core under test."""

    async def build(core: str) -> Database:
        database = await create_database(postgres, "flowworker_template", installed_template)
        await upgrade(database, core)
        return database

    return installed_template if REAL_CORE is None else asyncio.run(build(TESTED_CORES[0])).name


@pytest.fixture
async def database(postgres: LocalServer, template: str) -> AsyncIterator[Database]:
    """A fresh database with pgmq, pgflow and our schema, dropped after the test."""
    made = await create_database(postgres, f"test_{next(_numbers)}", template)
    yield made
    await drop_database(made)


@pytest.fixture
async def installed_database(postgres: LocalServer, installed_template: str) -> AsyncIterator[Database]:
    """A fresh database with the core that we install, whichever is under test, for `upgrade`."""
    made = await create_database(postgres, f"test_{next(_numbers)}", installed_template)
    yield made
    await drop_database(made)


@pytest.fixture
async def empty_database(postgres: LocalServer) -> AsyncIterator[Database]:
    """A fresh database with nothing in it, dropped after the test."""
    made = await create_database(postgres, f"test_{next(_numbers)}")
    yield made
    await drop_database(made)


@pytest.fixture(scope="session")
def core_templates(postgres: LocalServer, template: str) -> Callable[[str], Awaitable[str]]:
    """Makes the template of a core's catalogue when it is first asked for."""
    made = {TESTED_CORES[0]: template}

    async def make(core: str) -> str:
        if core not in made:
            name = f"flowworker_template_{core.replace('.', '_')}"
            await apply_catalogues(await create_database(postgres, name, template), core)
            made[core] = name
        return made[core]

    return make


@pytest.fixture(params=TESTED_CORES)
async def catalogue(
    request: pytest.FixtureRequest, postgres: LocalServer, core_templates: Callable[[str], Awaitable[str]]
) -> AsyncIterator[Database]:
    """A fresh database that looks like one pgflow core after another, or like those given with `indirect`."""
    core: str = request.param
    if REAL_CORE is not None and core not in TESTED_CORES:
        pytest.skip(f"core {REAL_CORE.name} is under test")
    template = await core_templates(core)
    made = replace(await create_database(postgres, f"test_{next(_numbers)}", template), core=core)
    yield made
    await drop_database(made)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """An owner's connection to the test's database."""
    connection = await database.connect()
    yield connection
    await connection.close()


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Connection]:
    """A connection with a worker's rights to the test's database."""
    connection = await database.connect_as_worker()
    yield connection
    await connection.close()
