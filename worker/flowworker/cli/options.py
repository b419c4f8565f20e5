"""Options that many commands share, and what they stand for.

Every command imports this, so what only some of them use, the client above all, is imported where it is used.
"""

import getpass
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar
from uuid import UUID

import typer

from flowworker.cli.output import Output
from flowworker.errors import UsageError

if TYPE_CHECKING:
    from flowworker.client import Client
    from flowworker.database.connection import Connection
    from flowworker.settings import Settings

T = TypeVar("T")

Dsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dsn", metavar="URI", help="The database; better kept in FLOWWORKER_DATABASE_URL or _FILE than given here."
    ),
]
DsnFile: TypeAlias = Annotated[
    Path | None, typer.Option("--database-file", metavar="FILE", help="File that holds the database's URI.")
]
OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")]
Reason: TypeAlias = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept with the request.")]
Actor: TypeAlias = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="Who asks; your login name unless given.", show_default=False),
]
References: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="MODULE:OBJECT", help="Flows and queues, or lists of them.")
]


def _database(dsn: str | None, file: Path | None) -> tuple[str, bool]:
    """The connection string, and whether statements may be prepared.

    Raises:
        UsageError: there is none or two, it is refused, or a variable's value is not allowed.
    """
    from flowworker.connection_strings import only_one

    alone = None if dsn is not None and file is not None else only_one(os.environ, url=dsn, file=file)
    if alone is not None:
        return alone, True
    settings = database_settings(dsn, file)
    return settings.dsn(), settings.statement_cache


def database_settings(dsn: str | None, file: Path | None) -> "Settings":
    """Settings with the database that the options or the environment name.

    Raises:
        UsageError: both options are given, or a variable's value is not allowed.
    """
    if dsn is not None and file is not None:
        raise UsageError("--dsn and --database-file exclude each other; give one of them")
    from flowworker.settings import load_settings

    return load_settings(database_url=dsn, database_file=file)


def with_client(dsn: str | None, file: Path | None, work: "Callable[[Client], Coroutine[Any, Any, T]]") -> T:
    """Do something with a client of the database that the options name."""
    import asyncio

    from flowworker.client import Client

    uri, statement_cache = _database(dsn, file)

    async def session() -> T:
        async with Client(uri, statement_cache=statement_cache) as client:
            return await work(client)

    return asyncio.run(session())


def with_connection(dsn: str | None, file: Path | None, work: "Callable[[Connection], Coroutine[Any, Any, T]]") -> T:
    """Do something with one connection to the database that the options name."""
    import asyncio

    from flowworker.database.connection import connect
    from flowworker.database.faults import translated

    uri, statement_cache = _database(dsn, file)

    async def session() -> T:
        connection = await connect(uri, application_name="flowworker-cli", statement_cache=statement_cache)
        try:
            with translated("do this"):
                return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(session())


def actor_or_login(actor: str | None) -> str | None:
    """Who asks: the name given, else that of the login; None where the system knows none."""
    if actor is not None:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None


def run_uuid(text: str) -> UUID:
    """A run's id.

    Raises:
        UsageError: it is no UUID.
    """
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is no run id; one looks like 2b1c5b0e-7f0e-4b7c-9d59-0a4f6a1c3d2e") from None
