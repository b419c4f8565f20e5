"""The rights of the database's roles, each as few as it can work with.

A worker claims, finishes and recovers tasks, starts runs, and reports about itself. It creates nothing, deletes no run
and no archived message, and changes no flow: that takes the owner. A client, the program that gives work, starts runs,
sends jobs and reads what became of them. An administrator, a person or a page, does that as well, cancels runs and jobs
and drains workers; what it asked for is on record, and it cannot take that back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from flowworker.database.connection import Connection
from flowworker.database.identifiers import quote
from flowworker.database.statements import load
from flowworker.errors import MissingRightsError, UsageError

READ = "SELECT"
ADD = "SELECT, INSERT"
AMEND = "SELECT, UPDATE"
WRITE = "SELECT, INSERT, UPDATE"
FULL = "SELECT, INSERT, UPDATE, DELETE"

ASK = "SELECT, INSERT (actor, action, kind, slug, reason, outcome, details)"
"""Of requests: to add those for retries, which have no target, and none for a cancellation."""

ARCHIVE = "pgmq.a_"
QUEUE = "pgmq.q_"

REQUIRED_FUNCTIONS = frozenset(
    {"pgflow.calculate_retry_delay", "pgflow.cascade_complete_taskless_steps", "pgflow.complete_task",
     "pgflow.fail_task", "pgflow.is_valid_slug", "pgflow.maybe_complete_run", "pgflow.set_vt_batch",
     "pgflow.start_flow", "pgflow.start_ready_steps", "pgflow.start_tasks", "pgmq.archive", "pgmq.format_table_name",
     "pgmq._send_batch", "pgmq._validate_batch_params", "pgmq.read", "pgmq.send", "pgmq.send_batch", "pgmq.set_vt",
     "realtime.send"}
)  # fmt: skip
"""Functions without which no worker works, on any core: what our statements call, and what core 0.8 and pgmq
call for them. Later cores call more, of names of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a role may do with the tables."""

    tables: Mapping[str, str]
    """Tables by name; the other ones of pgflow and flowworker, and pgmq.meta, are only read."""
    queue: str
    archive: str

    def on(self, table: str) -> str:
        """What the role may do with `schema.table`."""
        if table.startswith(QUEUE):
            return self.queue
        return self.archive if table.startswith(ARCHIVE) else self.tables.get(table, READ)


class Profile(Enum):
    """What a role is for.

    The throttle row of a queue is updated by pgmq's trigger with the rights of the sender, and lost when PostgreSQL
    crashes: INSERT lets it come back.
    """

    WORKER = Rights(
        tables={
            "pgflow.workers": WRITE,
            "pgflow.worker_functions": WRITE,
            "pgflow.runs": WRITE,
            "pgflow.step_states": WRITE,
            "pgflow.step_tasks": WRITE,
            "pgmq.notify_insert_throttle": WRITE,
            "flowworker.workers": FULL,
            "flowworker.drains": FULL,
            "flowworker.requests": ASK,
            "flowworker.run_links": ADD,
        },
        queue=FULL,
        archive=WRITE,
    )
    CLIENT = Rights(
        tables={
            "pgflow.runs": WRITE,
            "pgflow.step_states": WRITE,
            "pgflow.step_tasks": WRITE,
            "pgmq.notify_insert_throttle": WRITE,
            "flowworker.requests": ASK,
            "flowworker.run_links": ADD,
        },
        queue=ADD,
        archive=AMEND,
    )
    ADMINISTRATOR = Rights(
        tables={
            "pgflow.runs": WRITE,
            "pgflow.step_states": WRITE,
            "pgflow.step_tasks": WRITE,
            "pgmq.notify_insert_throttle": WRITE,
            "flowworker.drains": FULL,
            "flowworker.requests": ADD,
            "flowworker.run_links": ADD,
        },
        queue=FULL,
        archive=WRITE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grantable:
    """What exists that a role needs rights on."""

    role: str
    owner: str
    """Who creates later queues."""
    schemas: Sequence[str]
    tables: Sequence[str]
    """`schema.table` of pgflow, flowworker, and pgmq with its queues."""
    functions: Sequence[str] = ()
    """Functions that the role may not execute, as `"schema"."name"(argument types)`: by default PUBLIC may."""
    unreachable_database: str | None = None
    """The database, where the role may not connect to it."""


def grant_statements(found: Grantable, profile: Profile = Profile.WORKER) -> list[str]:
    """The statements that give a role its rights, on what exists and on the queues its owner creates later.

    Default privileges do not distinguish a queue from its archive: an archive created later comes with the rights on a
    queue; the next grant takes back what is too much.
    """
    role, rights = quote(found.role), profile.value
    later = {"pgmq": rights.queue, "pgflow": READ}
    excess = [right for right in FULL.split(", ") if right in rights.queue and right not in rights.archive]
    database = () if found.unreachable_database is None else (quote(found.unreachable_database),)
    return [
        *(f"GRANT CONNECT ON DATABASE {name} TO {role}" for name in database),
        *(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role}" for schema in found.schemas),
        *function_grants(found.functions, found.role),
        *(f"GRANT {rights.on(table)} ON {_quote_table(table)} TO {role}" for table in found.tables),
        *(
            f"REVOKE {', '.join(excess)} ON {_quote_table(table)} FROM {role}"
            for table in found.tables
            if table.startswith(ARCHIVE)
        ),
        *(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(found.owner)} IN SCHEMA {quote(schema)} "
            f"GRANT {later[schema]} ON TABLES TO {role}"
            for schema in found.schemas
            if schema in later
        ),
    ]


def function_grants(functions: Iterable[str], role: str) -> list[str]:
    """The statements that let a role execute functions."""
    return [f"GRANT EXECUTE ON FUNCTION {function} TO {quote(role)}" for function in functions]


def required_functions(denied: Iterable[str], *, schemas: Iterable[str]) -> list[str]:
    """Those of the functions, as Capabilities has them, without which a worker fails.

    Args:
        denied: `"schema"."name"(argument types)`.
        schemas: the ones that matter: pgflow not for a plain queue.
    """
    names = {name for name in REQUIRED_FUNCTIONS if name.partition(".")[0] in schemas}
    return [function for function in denied if function.partition("(")[0].replace('"', "") in names]


def refuse_missing_functions(denied: Iterable[str], *, role: str, schemas: Iterable[str]) -> None:
    """Check that a worker's role may execute what it must.

    Raises:
        MissingRightsError: it may not; the message holds the statements that help.
    """
    missing = required_functions(denied, schemas=schemas)
    if missing:
        raise MissingRightsError(
            f"role {role!r} may not execute functions that a worker needs. Run as the owner "
            f"`flowworker db install --role {role}`, or: {'; '.join(function_grants(missing, role))}"
        )


async def grant(connection: Connection, role: str, profile: Profile = Profile.WORKER) -> list[str]:
    """Give a role its rights; returns the statements that were run, all in one transaction.

    Args:
        connection: the owner's.
        role: an existing role.
        profile: what it is for.

    Raises:
        UsageError: there is no such role, or can be none.
    """
    async with connection.transaction():
        statements = grant_statements(await _read_grantable(connection, role), profile)
        for statement in statements:
            await connection.execute(statement)
    return statements


async def _read_grantable(connection: Connection, role: str) -> Grantable:
    quote(role)  # refuses what can be no role
    row = await connection.fetchrow(load("grants/grantable"), role)
    assert row is not None
    if not row["role_exists"]:
        raise UsageError(f"role {role!r} does not exist: create it first, for example CREATE ROLE {quote(role)} LOGIN")
    return Grantable(
        role=role,
        owner=row["owner"],
        schemas=row["schemas"],
        tables=row["tables"],
        functions=row["functions"],
        unreachable_database=row["unreachable_database"],
    )


def _quote_table(table: str) -> str:
    schema, _, name = table.partition(".")
    return f"{quote(schema)}.{quote(name)}"
