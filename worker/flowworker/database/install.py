"""Install pgmq, pgflow's core and our own schema where they are missing.

One file at a time: each transaction takes the advisory lock, looks at the database anew, applies the next missing file
and notes it in flowworker.ledger. So a crash loses at most the file it hit, two installers at once take turns, and an
installation made by other means is recognised by what it contains, never by a version table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import asyncpg

from flowworker.database.connection import CONNECTION_LOST, Connection, describe
from flowworker.database.identifiers import quote
from flowworker.database.inventory import Inventory, refuse_unknown
from flowworker.database.owner_rights import pins, read_definers
from flowworker.database.packaged import Component, PackagedFile, packaged_files, packaged_version
from flowworker.database.run_events import DEFAULT_SCOPE, RunEventScope, chosen_scope
from flowworker.database.run_index import IndexReport, make_run_index
from flowworker.database.statements import load
from flowworker.errors import DatabaseUnavailableError, MissingRightsError, UsageError

ADVISORY_LOCK = 0x666C6F77
"""Key of the advisory lock that installers hold while they apply a file."""

CREATION = re.compile(r'^\s*CREATE\s+(?:FUNCTION|TABLE|TYPE)\s+"?pgflow"?\."?(\w+)"?', re.IGNORECASE | re.MULTILINE)


class Action(StrEnum):
    """What became of one component."""

    INSTALLED = "installed"
    UPDATED = "updated"
    KEPT = "kept"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReport:
    """One line of an installation's report."""

    component: Component
    action: Action
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What one call of `install` found and did."""

    components: Sequence[ComponentReport]
    pins: Sequence[str]
    """Statements that took the caller's search_path from functions that run with their owner's rights."""
    index: IndexReport
    """What was done about the index on pgflow's runs."""

    def action(self, component: Component) -> Action:
        """What became of a component."""
        return next(report.action for report in self.components if report.component is component)


def next_file(inventory: Inventory, packaged: Sequence[PackagedFile]) -> PackagedFile | None:
    """The first packaged file that the database lacks; None when nothing is missing."""
    return next((file for file in packaged if _is_missing(file, inventory, packaged)), None)


async def install(
    connection: Connection, *, only: Component | None = None, run_events: RunEventScope | None = None
) -> InstallReport:
    """Install what is missing; calling it again, or twice at the same time, changes nothing.

    Args:
        connection: of a role that may create schemas in this database. Not inside a transaction.
        only: restricts the installation to one component; `Component.FLOWWORKER` is the useful one.
        run_events: what our stand-in for realtime.send announces from now on; None keeps what was chosen before, and
            announces the ends of runs where nothing was. A realtime.send that is not ours is never changed.

    Raises:
        UnsupportedSchemaError: something is there that we do not recognise; nothing was changed.
        MissingRightsError: the role may not create schemas here, or does not own what is there.
        DatabaseUnavailableError: the server takes no writes, or the connection broke; calling again goes on.
        UsageError: the packaged SQL is missing, or `only` leaves out what `run_events` is about.
    """
    if run_events is not None and only not in (None, Component.REALTIME):
        raise UsageError(f"what is announced about runs is no part of {only}: leave out one of --only and --run-events")
    before, applied, pinned, index = None, list[PackagedFile](), list[str](), IndexReport()
    while True:
        try:
            inventory, file = await _apply_next(connection, only, run_events)
            if file is None and only is not Component.FLOWWORKER:
                pinned += await _pin(connection)
                index = await make_run_index(connection)
        except CONNECTION_LOST as error:
            raise DatabaseUnavailableError(
                f"the connection broke during the installation: {describe(error)}. Run it again: it goes on from there."
            ) from error
        before = before or inventory
        if file is None:
            report = partial(_report, before=before, after=inventory, applied=applied, only=only)
            return InstallReport(components=[report(component) for component in Component], pins=pinned, index=index)
        applied.append(file)


async def _apply_next(
    connection: Connection, only: Component | None, run_events: RunEventScope | None
) -> tuple[Inventory, PackagedFile | None]:
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        inventory = await read_inventory(connection)
        refuse_unknown(inventory, only)
        scope = run_events or chosen_scope(inventory.realtime_source) or DEFAULT_SCOPE
        file = next_file(inventory, [file for file in packaged_files(scope) if only in (None, file.component)])
        if file is not None:
            try:
                await connection.execute(file.sql)
                await connection.execute(load("install/record"), file.component, file.name, file.checksum)
            except asyncpg.InsufficientPrivilegeError as error:
                raise _missing_rights(inventory, file, error) from error
        return inventory, file


async def _pin(connection: Connection) -> list[str]:
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        statements = pins(await read_definers(connection))
        for statement in statements:
            await connection.execute(statement)
    return statements


async def read_inventory(connection: Connection) -> Inventory:
    """Look at what the database holds."""
    row = await connection.fetchrow(load("install/inventory"))
    assert row is not None
    columns = frozenset[str](row["columns"])
    ledger = await connection.fetch(load("install/ledger")) if "flowworker.ledger.checksum" in columns else []
    return Inventory(
        database=row["database"],
        role=row["role"],
        server_version=row["server_version"],
        read_only=row["read_only"],
        pgmq_extension=row["pgmq_extension"],
        realtime_source=row["realtime_source"],
        columns=columns,
        functions=frozenset[str](row["functions"]),
        ledger={(entry["component"], entry["name"]): entry["checksum"] for entry in ledger},
    )


def _is_missing(file: PackagedFile, inventory: Inventory, packaged: Sequence[PackagedFile]) -> bool:
    noted = inventory.ledger.get((file.component, file.name))
    match file.component:
        case Component.FLOWWORKER:
            return noted != file.checksum
        case Component.PGMQ:
            return not inventory.has_pgmq
        case Component.REALTIME:
            if not inventory.has_realtime:
                return True
            other = inventory.run_events is not chosen_scope(file.sql) or noted not in (None, file.checksum)
            return inventory.run_events is not None and other
        case Component.PGFLOW:
            return noted is None and (not inventory.has_pgflow or _may_go_on(inventory, packaged))


def _may_go_on(inventory: Inventory, packaged: Sequence[PackagedFile]) -> bool:
    """Whether a core that we installed lacks only later files, and none of these was applied by other means."""
    noted, missing = list[PackagedFile](), list[PackagedFile]()
    for file in packaged:
        if file.component is Component.PGFLOW:
            (noted if (file.component, file.name) in inventory.ledger else missing).append(file)
    if not noted or any(file.name < noted[-1].name for file in missing):
        return False
    new = _created_by(missing) - _created_by(noted)
    return not any(inventory.holds("pgflow", name) for name in new)


def _created_by(files: Sequence[PackagedFile]) -> set[str]:
    """Names of pgflow's functions, tables and types that these files create."""
    return {name for file in files for name in CREATION.findall(file.sql)}


def _report(
    component: Component, *, before: Inventory, after: Inventory, applied: Sequence[PackagedFile],
    only: Component | None,
) -> ComponentReport:  # fmt: skip
    count = sum(file.component is component for file in applied)
    action, detail = Action.KEPT, before.describe(component)
    if only not in (None, component):
        action, detail = Action.SKIPPED, f"only {only} was asked for"
    elif count:
        action = Action.UPDATED if before.has(component) else Action.INSTALLED
        detail = f"{packaged_version(component)}, {count} file{'s' if count > 1 else ''} applied"
        if component is Component.REALTIME:
            detail = f"our stand-in, announces: {after.run_events}"
    return ComponentReport(component=component, action=action, detail=detail)


def _missing_rights(inventory: Inventory, file: PackagedFile, error: Exception) -> MissingRightsError:
    command = f"GRANT CREATE ON DATABASE {quote(inventory.database)} TO {quote(inventory.role)}"
    return MissingRightsError(
        f"role {inventory.role!r} may not apply {file.component} {file.name}: {error}. Install as the owner of the "
        f"database, or run as its owner: {command}"
    )
