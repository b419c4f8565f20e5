"""Whether a pooler in transaction mode stands before the database, and what it breaks there.

It gives a session of the server to one client for one transaction, then to another. So a statement that one transaction
prepared is unknown in the next, or is that of another client under the same name.
"""

import asyncpg

from flowworker.database.connection import Connection

BACKEND = "SELECT pg_backend_pid()"

REMEDY = "behind a pooler in transaction mode set FLOWWORKER_STATEMENT_CACHE=false"

LOST_STATEMENT = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A prepared statement is gone, or its name is taken, in a session that no other client should be using."""


async def shares_sessions(one: Connection, other: Connection) -> bool:
    """Whether two connections, both idle and open, are served by sessions that they do not own.

    PgBouncer hands out the session that was used last: the second client gets the first one's.
    """
    try:
        async with one.transaction():
            first = await one.fetchval(BACKEND)
        async with other.transaction():
            if await other.fetchval(BACKEND) == first:
                return True
            async with one.transaction():
                return await one.fetchval(BACKEND) != first
    except LOST_STATEMENT:
        return True
