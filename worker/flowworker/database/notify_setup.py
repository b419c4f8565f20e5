"""Whether inserts into a queue wake listeners, and making them do so.

pgmq notifies from a trigger that first updates a row of an UNLOGGED table. The trigger is DDL on the queue and takes
its owner; the row is lost when PostgreSQL crashes and needs only a write. Neither is ever made anew when it is there:
`enable_notify_insert` starts by dropping both, and waits for all transactions that write to the queue.
"""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from flowworker.database.connection import Connection
from flowworker.database.identifiers import quote
from flowworker.database.statements import load

THROTTLE_MILLISECONDS = 250
"""pgmq's default: at most one notification per queue in this time."""

LOCK_TIMEOUT = "3s"
"""A lock request that waits blocks all later writers of the queue: give up soon."""


class NotifyStatus(StrEnum):
    """Whether notifications of a queue's inserts work, or the first reason why not."""

    READY = "ready"
    NO_QUEUE = "no queue"
    UPPER_CASE = "upper-case name"
    NO_FUNCTION = "function missing"
    NO_TRIGGER = "no trigger"
    NO_RIGHTS = "no rights"
    THROTTLE_LOST = "throttle row lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyFacts:
    """What the decision needs."""

    queue: str
    role: str
    enable_arity: int
    """Arguments of pgmq.enable_notify_insert; 0: it does not exist, 1: without throttle."""
    queue_exists: bool
    owns_queue: bool
    has_trigger: bool
    has_throttle: bool
    may_read: bool
    may_write: bool
    has_row: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyState:
    """Whether notifications of a queue's inserts work."""

    status: NotifyStatus
    message: str
    """What was found."""
    command: str | None = None
    """The statement that helps, where there is one."""

    @property
    def ready(self) -> bool:
        """Whether a listener will be woken."""
        return self.status is NotifyStatus.READY


def decide(facts: NotifyFacts) -> NotifyState:
    """The state that follows from the facts: the first obstacle, with what to do about it."""
    queue, literal = facts.queue, "'" + facts.queue.replace("'", "''") + "'"
    enable = f"SELECT pgmq.enable_notify_insert({literal})"
    throttled = facts.has_throttle and facts.enable_arity != 1
    table = "pgmq.notify_insert_throttle"
    obstacles = (
        (not facts.queue_exists, NotifyStatus.NO_QUEUE, f"there is no queue {queue!r}",
         f"SELECT pgmq.create({literal})"),
        (queue != queue.lower(), NotifyStatus.UPPER_CASE,
         f"pgmq never notifies for a queue whose name has capitals, as {queue!r} has", None),
        (facts.enable_arity == 0, NotifyStatus.NO_FUNCTION, "this pgmq cannot notify: it is too old",
         "ALTER EXTENSION pgmq UPDATE"),
        (not facts.has_trigger, NotifyStatus.NO_TRIGGER, f"queue {queue!r} has no insert trigger; its owner can add it",
         enable),
        (throttled and not (facts.may_read and facts.may_write), NotifyStatus.NO_RIGHTS,
         f"role {facts.role!r} may not write {table}, as the trigger does for every insert",
         f"GRANT SELECT, INSERT, UPDATE ON {table} TO {quote(facts.role)}"),
        (throttled and not facts.has_row, NotifyStatus.THROTTLE_LOST,
         f"queue {queue!r} has its trigger but lost its throttle row, as happens when PostgreSQL crashes",
         f"INSERT INTO {table} (queue_name, throttle_interval_ms) "  # noqa: S608 - shown, never run
         f"VALUES ({literal}, {THROTTLE_MILLISECONDS})"),
    )  # fmt: skip
    for present, status, message, command in obstacles:
        if present:
            return NotifyState(status=status, message=message, command=command)
    return NotifyState(status=NotifyStatus.READY, message=f"inserts into queue {queue!r} wake listeners")


async def notify_state(connection: Connection, queue: str) -> NotifyState:
    """Find out whether inserts into a queue wake listeners; two cheap statements, no lock."""
    return decide(await _facts(connection, queue))


async def ensure_notify(
    connection: Connection, queue: str, *, throttle_milliseconds: int = THROTTLE_MILLISECONDS
) -> NotifyState:
    """Make inserts into a queue wake listeners as far as this role can; what is there is left alone.

    The owner adds the trigger. A worker's role brings a lost throttle row back. Whatever is still missing afterwards is
    in the returned state: nothing of it is worth failing for, the worker polls.
    """
    try:
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute(load("notify/lock"), queue)
            facts = await _facts(connection, queue)
            await _repair(connection, facts, decide(facts).status, throttle_milliseconds)
    except (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError):
        # A long transaction writes to the queue, or a right we cannot look up is missing: the state shows the rest.
        return await notify_state(connection, queue)
    return await notify_state(connection, queue)


async def _repair(connection: Connection, facts: NotifyFacts, status: NotifyStatus, milliseconds: int) -> None:
    if status is NotifyStatus.NO_TRIGGER and facts.owns_queue:
        if facts.enable_arity == 1:
            await connection.execute(load("notify/enable_plain"), facts.queue)
        else:
            await connection.execute(load("notify/enable"), facts.queue, milliseconds)
    elif status is NotifyStatus.THROTTLE_LOST:
        await connection.execute(load("notify/repair"), facts.queue, milliseconds)


async def _facts(connection: Connection, queue: str) -> NotifyFacts:
    row = await connection.fetchrow(load("notify/state"), queue)
    assert row is not None
    facts = dict(row)
    if facts.pop("may_list"):
        queue = await connection.fetchval(load("notify/listed"), queue) or queue
    has_row = facts["may_read"] and bool(await connection.fetchval(load("notify/has_row"), queue))
    return NotifyFacts(queue=queue, has_row=has_row, **facts)
