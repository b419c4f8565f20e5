"""A PostgreSQL of one's own below the working directory, with everything installed, kept between runs."""

import asyncio
import fcntl
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from flowworker.database.connection import connect
from flowworker.database.databases import create_database, database_exists
from flowworker.database.install import install
from flowworker.database.local_server import LocalServer, write_private
from flowworker.errors import UsageError

DATABASE = "flowworker"
APPLICATION_NAME = "flowworker-dev"
SETTINGS = {"synchronous_commit": "off"}
"""Faster, and at worst the last moments are gone after a crash of the machine."""


class Playground:
    """A server with an installed database; a context manager that stops it again."""

    def __init__(self, *, directory: Path, port: int = 0, reset: bool = False) -> None:
        """Nothing happens before it is entered.

        Args:
            directory: holds the data; ignored by git.
            port: 0 picks a free one.
            reset: begin with an empty database.
        """
        self._directory = directory.resolve()
        self._reset = reset
        self._server = LocalServer(directory=self._directory / "postgresql", settings=SETTINGS, port=port)
        self._held = ExitStack()

    @property
    def dsn(self) -> str:
        """Connection string of the database's owner."""
        return self._server.dsn(DATABASE)

    @property
    def dsn_file(self) -> Path:
        """Holds that connection string; only we may read it."""
        return self._directory / "dsn"

    def __enter__(self) -> Self:
        """Start the server and install what is missing.

        Raises:
            UsageError: another process uses the same directory.
            DatabaseUnavailableError: PostgreSQL does not start.
        """
        with ExitStack() as undo:
            self._lock(undo)
            # With the lock in our hands, a server that still runs was left behind by a process that was killed.
            self._server.stop("immediate")
            if self._reset:
                shutil.rmtree(self._server.directory, ignore_errors=True)
            undo.enter_context(self._server)
            asyncio.run(self._install())
            write_private(self.dsn_file, self.dsn + "\n")
            self._held = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _lock(self, undo: ExitStack) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / ".gitignore").write_text("*\n", encoding="utf-8")
        lock = undo.enter_context((self._directory / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another `flowworker dev` already uses {self._directory}; give --directory") from None

    async def _install(self) -> None:
        admin = await connect(self._server.dsn(), application_name=APPLICATION_NAME)
        try:
            if not await database_exists(admin, DATABASE):
                await create_database(admin, DATABASE)
        finally:
            await admin.close()
        owner = await connect(self.dsn, application_name=APPLICATION_NAME)
        try:
            await install(owner)
        finally:
            await owner.close()
