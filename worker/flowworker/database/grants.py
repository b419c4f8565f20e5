"""The rights of a worker's database role: as few as it can work with.

A worker claims, finishes and recovers tasks, starts runs, and reports about itself. It creates nothing, deletes no run
and no archived message, and changes no flow: that takes the owner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowworker.database.connection import Connection
from flowworker.database.identifiers import quote
from flowworker.database.statements import load
from flowworker.errors import UsageError

READ = "SELECT"
WRITE = "SELECT, INSERT, UPDATE"
FULL = "SELECT, INSERT, UPDATE, DELETE"

TABLE_RIGHTS: Mapping[str, str] = {
    "pgflow.workers": WRITE,
    "pgflow.worker_functions": WRITE,
    "pgflow.runs": WRITE,
    "pgflow.step_states": WRITE,
    "pgflow.step_tasks": WRITE,
    "pgmq.notify_insert_throttle": WRITE,
    "flowworker.workers": FULL,
    "flowworker.drains": FULL,
}
"""Tables a worker writes; the other tables of pgflow and flowworker, and pgmq.meta, are only read.

The throttle row of a queue is updated by pgmq's trigger with the rights of whoever inserts, and lost when PostgreSQL
crashes: INSERT lets a worker bring it back.
"""

ARCHIVE = "pgmq.a_"
PREFIX_RIGHTS: Mapping[str, str] = {"pgmq.q_": FULL, ARCHIVE: WRITE}
"""Tables of queues and their archives."""

LATER_RIGHTS: Mapping[str, str] = {"pgmq": FULL, "pgflow": READ}
"""Default privileges per schema. They cannot tell a queue from its archive: archives created later come with DELETE,
which the next `grant` takes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grantable:
    """What exists that a role needs rights on."""

    role: str
    owner: str
    """Who creates later queues."""
    schemas: Sequence[str]
    tables: Sequence[str]
    """`schema.table` of pgflow, flowworker, and pgmq with its queues."""


def grant_statements(found: Grantable) -> list[str]:
    """The statements that give a role a worker's rights, on what exists and on the queues its owner creates later."""
    role = quote(found.role)
    return [
        *(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role}" for schema in found.schemas),
        *(f"GRANT {table_rights(table)} ON {_quote_table(table)} TO {role}" for table in found.tables),
        *(f"REVOKE DELETE ON {_quote_table(table)} FROM {role}" for table in found.tables if table.startswith(ARCHIVE)),
        *(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(found.owner)} IN SCHEMA {quote(schema)} "
            f"GRANT {LATER_RIGHTS[schema]} ON TABLES TO {role}"
            for schema in found.schemas
            if schema in LATER_RIGHTS
        ),
    ]


def table_rights(table: str) -> str:
    """What a worker may do with `schema.table`."""
    by_prefix = (rights for prefix, rights in PREFIX_RIGHTS.items() if table.startswith(prefix))
    return TABLE_RIGHTS.get(table) or next(by_prefix, READ)


async def grant(connection: Connection, role: str) -> list[str]:
    """Give a role a worker's rights; returns the statements that were run, all in one transaction.

    Args:
        connection: the owner's.
        role: an existing role.

    Raises:
        UsageError: there is no such role.
    """
    async with connection.transaction():
        statements = grant_statements(await _read_grantable(connection, role))
        for statement in statements:
            await connection.execute(statement)
    return statements


async def _read_grantable(connection: Connection, role: str) -> Grantable:
    row = await connection.fetchrow(load("grants/grantable"), role)
    assert row is not None
    if not row["role_exists"]:
        raise UsageError(f"role {role!r} does not exist: create it first, for example CREATE ROLE {quote(role)} LOGIN")
    return Grantable(role=role, owner=row["owner"], schemas=row["schemas"], tables=row["tables"])


def _quote_table(table: str) -> str:
    schema, _, name = table.partition(".")
    return f"{quote(schema)}.{quote(name)}"
