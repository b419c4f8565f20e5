"""A PostgreSQL server inside the cluster, and databases in it that have everything installed."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import yaml
from testkit.support import recording
from testkit.support.forward import Forward
from testkit.support.kube import NAMESPACES, NODES, SECRETS, SERVICES, STATEFUL_SETS, Kube, Object
from testkit.support.programs import Programs
from testkit.support.waiting import until

from flowworker.database.connection import CONNECTION_LOST, Connection, connect
from flowworker.database.grants import grant
from flowworker.database.install import install
from flowworker.errors import DatabaseUnavailableError

T = TypeVar("T")

MANIFEST = Path(__file__).resolve().parents[2] / "examples" / "demo_cluster" / "postgres.yaml"
PORT = 5432
SUPERUSER, OWNER_ROLE, WORKER_ROLE = "postgres", "flowworker_owner", "flowworker_worker"
TEMPLATE = "template_flowworker"
START_PATIENCE = 90.0
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}

E2E_SCHEMA = f"""
    CREATE SCHEMA e2e;
    CREATE TABLE e2e.journal (
        execution text, what text, owner text NOT NULL, step text NOT NULL, index bigint NOT NULL,
        attempt integer NOT NULL, worker text NOT NULL, pid integer NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (execution, what)
    );
    CREATE TABLE e2e.gates (name text PRIMARY KEY);
    GRANT USAGE ON SCHEMA e2e TO {WORKER_ROLE};
    GRANT SELECT, INSERT ON e2e.journal, e2e.gates TO {WORKER_ROLE};
"""

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server, in a namespace of its own. It stays until its cluster goes."""

    namespace: str
    password: str = "e2e"
    """Of all roles."""

    async def deploy(self, kube: Kube) -> None:
        """Create it on the first node, which no test takes away, and wait until it accepts connections."""
        first = min(node["metadata"]["name"] for node in await kube.list(NODES, None))
        await kube.apply(NAMESPACES, None, {"metadata": {"name": self.namespace, "labels": RESTRICTED}})
        secret: Object = {"metadata": {"name": "postgres-superuser"}, "stringData": {"password": self.password}}
        await kube.apply(SECRETS, self.namespace, secret)
        for manifest in yaml.safe_load_all(MANIFEST.read_text()):
            kind = SERVICES if manifest["kind"] == "Service" else STATEFUL_SETS
            if kind is STATEFUL_SETS:
                manifest["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": first}
            await kube.apply(kind, self.namespace, manifest)
        await self.ready(kube)

    async def ready(self, kube: Kube) -> None:
        """Wait until it accepts connections."""

        async def is_ready() -> bool:
            found = await kube.get(STATEFUL_SETS, self.namespace, "postgres")
            return found is not None and found.get("status", {}).get("readyReplicas") == 1

        await until(is_ready, f"PostgreSQL in {self.namespace} is ready", patience=START_PATIENCE, every=0.3)

    async def switch(self, kube: Kube, *, on: bool) -> None:
        """Stop the server, or start it again; its data stays."""
        await kube.patch(STATEFUL_SETS, self.namespace, "postgres", {"spec": {"replicas": int(on)}})
        if on:
            await self.ready(kube)
            return

        async def is_gone() -> bool:
            found = await kube.get(STATEFUL_SETS, self.namespace, "postgres")
            return found is not None and not found["status"].get("replicas")

        await until(is_gone, f"PostgreSQL in {self.namespace} has stopped", patience=START_PATIENCE, every=0.3)

    def dsn(self, database: str, role: str = WORKER_ROLE, password: str = "") -> str:
        """Connection string for pods."""
        written = quote(password or self.password, safe="")
        return f"postgresql://{role}:{written}@postgres.{self.namespace}.svc:{PORT}/{database}"

    async def prepare(self, programs: Programs) -> None:
        """Create the roles, and the template of all databases; anew where an earlier session has left them."""
        async with self.reached(programs) as way:
            await way.ask(self._create_roles, database="postgres", role=SUPERUSER)
            await way.create(TEMPLATE, template="template1")
            await way.ask(_install, database=TEMPLATE, role=OWNER_ROLE)

    @asynccontextmanager
    async def reached(self, programs: Programs) -> AsyncGenerator["Way"]:
        """A way to it, from here."""
        way = Way(self, Forward(programs, self.namespace, "postgres", PORT))
        try:
            yield way
        finally:
            await way.close()

    async def _create_roles(self, connection: Connection) -> None:
        await connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
        for role in (OWNER_ROLE, WORKER_ROLE):
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}'")


@dataclass(slots=True)
class Way:
    """Connections to a server's databases from outside of the cluster; one that breaks is made anew."""

    server: Server
    forward: Forward
    _open: dict[tuple[str, str], Connection] = field(default_factory=dict[tuple[str, str], Connection])
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, work: Callable[[Connection], Awaitable[T]], *, database: str, role: str) -> T:
        """Do something that may be repeated; tried again while the way is broken, for half a minute."""

        async def attempt() -> tuple[T] | None:
            try:
                return (await work(await self._connection(database, role)),)
            except (*CONNECTION_LOST, DatabaseUnavailableError):
                return None

        async with self._alone:
            (answer,) = await until(attempt, f"database {database} can be asked", every=0.3)
        return answer

    async def create(self, database: str, *, template: str = TEMPLATE) -> None:
        """Create a database that belongs to the owner."""
        statement = f"CREATE DATABASE {database} TEMPLATE {template} OWNER {OWNER_ROLE}"

        async def work(connection: Connection) -> None:
            await connection.execute(statement)

        await self.ask(work, database="postgres", role=SUPERUSER)

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._open.values():
            with suppress(*CONNECTION_LOST):
                await connection.close(timeout=2)
        await self.forward.close()

    async def _connection(self, database: str, role: str) -> Connection:
        known = self._open.get((database, role))
        if known is not None and not known.is_closed():
            return known
        port = await self.forward.open()
        dsn = f"postgresql://{role}:{self.server.password}@127.0.0.1:{port}/{database}"
        self._open[database, role] = made = await connect(dsn, application_name="e2e")
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database with everything installed."""

    way: Way
    name: str

    @classmethod
    async def create(cls, way: Way) -> "Database":
        """A new one, which stays as long as its server."""
        name = f"db_{next(_numbers)}_{secrets.token_hex(2)}"
        await way.create(name)
        return cls(way=way, name=name)

    @property
    def dsn(self) -> str:
        """Connection string for workers."""
        return self.way.server.dsn(self.name)

    async def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something as the owner; see `Way.ask`."""
        return await self.way.ask(work, database=self.name, role=OWNER_ROLE)

    async def fetch(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a statement that may be repeated."""

        async def work(connection: Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in await connection.fetch(statement, *values)]

        return await self.ask(work)

    async def value(self, statement: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        rows = await self.fetch(statement, *values)
        return next(iter(rows[0].values())) if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role with a worker's rights."""

    database: Database
    name: str
    password: str

    @classmethod
    async def create(cls, database: Database, password: str = "") -> "Role":
        """A new one, which stays as long as the server; with the server's password unless another one is given."""
        name = f"rotated_{next(_numbers)}_{secrets.token_hex(2)}"
        role = cls(database=database, name=name, password=password or database.way.server.password)
        await role._administer(f"CREATE ROLE {role.name} LOGIN PASSWORD '{role.password}' IN ROLE {WORKER_ROLE}")
        return role

    @property
    def dsn(self) -> str:
        """Connection string for workers."""
        return self.database.way.server.dsn(self.database.name, self.name, self.password)

    async def lock(self) -> None:
        """Refuse new connections of the role, and end those it has."""
        await self._administer(f"ALTER ROLE {self.name} NOLOGIN")
        await self._administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.name}'")

    async def users(self) -> set[str]:
        """Addresses of those who are connected."""
        statement = "SELECT DISTINCT client_addr::text AS address FROM pg_stat_activity WHERE usename = $1"

        async def work(connection: Connection) -> set[str]:
            return {row["address"] for row in await connection.fetch(statement, self.name)}

        return await self.database.way.ask(work, database="postgres", role=SUPERUSER)

    async def _administer(self, statement: str) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(statement)

        await self.database.way.ask(work, database="postgres", role=SUPERUSER)


async def _install(connection: Connection) -> None:
    """What `flowworker db install --role` does, and the tables of tests."""
    await install(connection)
    await grant(connection, WORKER_ROLE)
    await recording.install(connection)
    await connection.execute(E2E_SCHEMA)
