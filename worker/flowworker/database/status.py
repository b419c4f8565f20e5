"""What is installed in a database and what lies in it: the answer of `flowworker db status`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection
from flowworker.database.notify_setup import NotifyState, notify_state
from flowworker.database.statements import load


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One file that `install` has applied."""

    component: str
    name: str
    checksum: str
    installed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """One pgmq queue, of a flow or of plain jobs."""

    name: str
    partitioned: bool
    unlogged: bool
    notify: NotifyState


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatus:
    """One flow."""

    slug: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """What is installed and what lies in it; empty where a schema is missing."""

    capabilities: Capabilities
    ledger: Sequence[LedgerEntry]
    queues: Sequence[QueueStatus]
    flows: Sequence[FlowStatus]


async def status(connection: Connection) -> DatabaseStatus:
    """Look at a database; reads only."""
    capabilities = await detect(connection)
    return DatabaseStatus(
        capabilities=capabilities,
        ledger=await _ledger(connection) if capabilities.own_schema else (),
        queues=await _queues(connection) if capabilities.pgmq else (),
        flows=await _flows(connection) if capabilities.pgflow else (),
    )


async def _ledger(connection: Connection) -> list[LedgerEntry]:
    return [LedgerEntry(**row) for row in await connection.fetch(load("install/ledger"))]


async def _queues(connection: Connection) -> list[QueueStatus]:
    rows = await connection.fetch(load("catalogue/queues"))
    return [QueueStatus(**row, notify=await notify_state(connection, row["name"])) for row in rows]


async def _flows(connection: Connection) -> list[FlowStatus]:
    rows = await connection.fetch(load("catalogue/flows"))
    return [FlowStatus(slug=row["flow_slug"], steps=row["steps"]) for row in rows]
