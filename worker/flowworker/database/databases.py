"""Making and removing whole databases, for development, tests and benchmarks."""

from flowworker.database.connection import Connection
from flowworker.database.identifiers import quote
from flowworker.database.statements import fill, load


async def create_database(connection: Connection, name: str, *, template: str | None = None) -> None:
    """Create a database, empty or as a copy of another one."""
    if template is None:
        await connection.execute(fill("databases/create", database=quote(name)))
    else:
        await connection.execute(fill("databases/copy", database=quote(name), template=quote(template)))


async def database_exists(connection: Connection, name: str) -> bool:
    """Whether the server has a database of this name."""
    found: bool = await connection.fetchval(load("databases/exists"), name)
    return found


async def drop_database(connection: Connection, name: str) -> None:
    """Drop a database if it exists, and end all connections to it."""
    await connection.execute(fill("databases/drop", database=quote(name)))
