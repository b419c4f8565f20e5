"""What the claims of flows and queues have in common: a deadline and a fence."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from flowworker.database.connection import Connection
from flowworker.database.server_clock import ServerClock
from flowworker.database.statements import fill, load
from flowworker.errors import DatabaseUnavailableError

CLAIM_PATIENCE = timedelta(seconds=5)
"""How long a claim may be on its way. A lease is prolonged long before it ends: an outage short enough for the claim
to be in time ends none."""

FENCED = frozenset({"lost", "stopped"})
"""States of flowworker.workers in which a worker claims nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """When a claim ran, and whether it was let in."""

    claimed_at: datetime
    """The database's time."""
    fenced: bool
    """The worker was marked lost, or its end was written: nothing is read under its id any more."""


async def deadline_of(connection: Connection, clock: ServerClock) -> datetime:
    """The database's time after which a claim that is sent now reads nothing."""
    now = clock.now()
    if now is None:
        now = await connection.fetchval(load("queue/now"))
        assert now is not None
        clock.set(now)
    return now + CLAIM_PATIENCE


def ticket_of(row: asyncpg.Record, *, deadline: datetime, clock: ServerClock, name: str) -> Ticket:
    """Check the first row of a claim's answer, and set the clock by it.

    Args:
        row: has `now` and `state`, whether or not there is a message.
        deadline: what the claim was given.
        clock: the database's.
        name: of the flow or queue, for the errors.

    Raises:
        DatabaseUnavailableError: the claim came late, or the worker is not registered now. It read nothing.
    """
    now: datetime = row["now"]
    clock.set(now)
    if now > deadline:
        late = (now - deadline + CLAIM_PATIENCE).total_seconds()
        raise DatabaseUnavailableError(
            f"a claim of {name!r} reached the database {late:.1f} s late and read nothing; the worker claims again"
        )
    if row["state"] is None:
        raise DatabaseUnavailableError("the worker is not registered now; its next heartbeat does it")
    return Ticket(claimed_at=now, fenced=row["state"] in FENCED)


def counter(name: str, *, ours: str) -> str:
    """An SQL expression for one of our counters in a message's headers."""
    return fill("headers/count", name=name, ours=ours)


def ours_in(headers: str) -> str:
    """An SQL expression for our corner of a message's headers."""
    return fill("headers/ours", headers=headers)
