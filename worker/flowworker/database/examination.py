"""The doctor's look at a database. It only reads, and what this role may not see it skips."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import asyncpg

from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.compile import database_shape
from flowworker.database.connection import Connection
from flowworker.database.doctor import STALE_AFTER, Examination, OutlastingStep, QueueTable, StaleWorker
from flowworker.database.flow_tasks import by_queue
from flowworker.database.identifiers import queue_table
from flowworker.database.notify_setup import NotifyState, notify_state
from flowworker.database.owner_rights import read_definers, read_open_schemas
from flowworker.database.pooler import shares_sessions
from flowworker.database.statements import fill, load
from flowworker.definition.flow import Flow
from flowworker.definition.shape import differences, option_changes, shape_of
from flowworker.errors import ShapeMismatchError
from flowworker.option_change import OptionChange

LISTEN_TIMEOUT = 2.0
"""Seconds for our own notification to arrive."""

T = TypeVar("T")


async def examine(
    connection: Connection,
    other: Connection,
    *,
    now: Callable[[], datetime],
    flows: Iterable[Flow] = (),
    statement_cache: bool = True,
) -> Examination:
    """Look at everything the doctor's checks need.

    Args:
        connection: of the role whose situation is examined; not inside a transaction.
        other: a second one like it: through a pooler, one connection alone looks like a direct one.
        now: this machine's clock, with a time zone.
        flows: flows in code that should be in the database.
        statement_cache: whether workers are set to prepare statements once per connection.
    """
    capabilities = await detect(connection)
    before = now()
    server = await connection.fetchrow(load("doctor/server"))
    assert server is not None
    middle = before + (now() - before) / 2
    compared = {flow.slug: await _compared(connection, flow, capabilities) for flow in flows}
    both = capabilities.pgflow and capabilities.own_schema
    return Examination(
        role=capabilities.role,
        capabilities=capabilities,
        listen_works=await _listen_works(connection, other),
        shares_sessions=await shares_sessions(connection, other),
        statement_cache=statement_cache,
        clock_skew=(middle - server["now"]).total_seconds(),
        connection_limit=server["connection_limit"],
        connections=server["connections"],
        oldest_xmin_age=server["oldest_xmin_age"],
        oldest_slot_age=server["oldest_slot_age"],
        longest_transaction=server["longest_transaction"],
        tables=[QueueTable(**row) for row in await connection.fetch(load("doctor/tables"))],
        notify=await _visible(_notify(connection), {}) if capabilities.pgmq else {},
        flow_problems={slug: problems for slug, (problems, _) in compared.items()},
        flow_options={slug: changes for slug, (_, changes) in compared.items()},
        slugs=await _visible(_slugs(connection), {}) if capabilities.pgflow else {},
        split_flows=await _visible(_split_flows(connection), []) if capabilities.pgflow else [],
        outlasting_steps=await _visible(_outlasting_steps(connection), []) if capabilities.pgflow else [],
        definers=await read_definers(connection),
        open_schemas=await read_open_schemas(connection),
        stale_workers=await _visible(_stale_workers(connection), []) if capabilities.own_schema else [],
        ownerless=await _visible(_ownerless(connection), {}) if both else {},
        shared_queues=await _visible(_shared_queues(connection), []) if both else [],
        foreign_messages=await _visible(_foreign_messages(connection, capabilities), {}) if capabilities.pgflow else {},
    )


async def _visible(look: Awaitable[T], otherwise: T) -> T:
    """What a look finds, or nothing where the role may not look: the check of rights reports that."""
    try:
        return await look
    except asyncpg.InsufficientPrivilegeError:
        return otherwise


async def _listen_works(connection: Connection, other: Connection) -> bool:
    """Whether one connection hears another. PgBouncer delivers what a client sends to itself in one transaction."""
    arrived = asyncio.Event()
    channel = f"flowworker_doctor_{secrets.token_hex(8)}"

    def hear(*_: object) -> None:
        arrived.set()

    await connection.add_listener(channel, hear)
    try:
        await other.execute("SELECT pg_notify($1, '')", channel)
        await asyncio.wait_for(arrived.wait(), LISTEN_TIMEOUT)
    except TimeoutError:
        return False
    finally:
        await connection.remove_listener(channel, hear)
    return True


async def _notify(connection: Connection) -> Mapping[str, NotifyState]:
    names = [row["name"] for row in await connection.fetch(load("catalogue/queues"))]
    return {name: await notify_state(connection, name) for name in names}


async def _compared(
    connection: Connection, flow: Flow, capabilities: Capabilities
) -> tuple[Sequence[str], Sequence[OptionChange]]:
    """How a flow's shape and its options differ."""
    code, missing = shape_of(flow), ["it is not in the database"]
    if not capabilities.pgflow:
        return missing, ()
    try:
        found = await database_shape(connection, flow.slug)
    except ShapeMismatchError as error:
        return error.differences, ()
    except asyncpg.InsufficientPrivilegeError:
        return ["this role may not see it"], ()
    return (missing, ()) if found is None else (differences(code, found), option_changes(code, found))


async def _slugs(connection: Connection) -> Mapping[str, Sequence[str]]:
    return {row["flow_slug"]: row["steps"] for row in await connection.fetch(load("doctor/slugs"))}


async def _split_flows(connection: Connection) -> Sequence[str]:
    return [row["flow_slug"] for row in await connection.fetch(load("doctor/split_flows"))]


async def _outlasting_steps(connection: Connection) -> Sequence[OutlastingStep]:
    return [OutlastingStep(**row) for row in await connection.fetch(load("doctor/outlasting_steps"))]


async def _stale_workers(connection: Connection) -> Sequence[StaleWorker]:
    return [StaleWorker(**row) for row in await connection.fetch(load("doctor/stale_workers"), STALE_AFTER)]


async def _shared_queues(connection: Connection) -> Sequence[tuple[str, str]]:
    rows = await connection.fetch(load("doctor/shared_queues"))
    return [(row["worker_name"], row["slug"]) for row in rows]


async def _ownerless(connection: Connection) -> Mapping[str, int]:
    return {row["flow_slug"]: row["tasks"] for row in await connection.fetch(load("doctor/ownerless"))}


async def _foreign_messages(connection: Connection, capabilities: Capabilities) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for row in await connection.fetch(load("catalogue/flows")):
        slug = row["flow_slug"]
        statement = fill("doctor/foreign_messages", queue=queue_table(slug), by_queue=by_queue(capabilities))
        try:
            counts[slug] = await connection.fetchval(statement, slug)
        except asyncpg.UndefinedTableError:
            continue
    return {slug: count for slug, count in counts.items() if count}
