"""The server that `flowworker dev`, the demo and the tests run on."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import make_server

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer, free_port
from flowworker.errors import AuthenticationError, DatabaseUnavailableError, UsageError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> Iterator[LocalServer]:
    """Not started; stopped in the end if a test has started it."""
    made = make_server(folder / "server")
    yield made
    made.stop("immediate")


async def value_of(server: LocalServer, query: str) -> object:
    connection = await connect(server.dsn(), application_name="test")
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_data_is_kept_between_runs(server: LocalServer) -> None:
    with server:
        await value_of(server, "CREATE TABLE kept AS SELECT 7 AS value")
    with replace(server, port=0) as again:
        assert await value_of(again, "SELECT value FROM kept") == 7


def test_stopping_twice_and_before_a_start_does_nothing(server: LocalServer) -> None:
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert not server.is_running()


async def test_a_second_caller_uses_the_running_server_and_leaves_it_running(server: LocalServer) -> None:
    server.start()
    with replace(server, port=0) as second:
        assert second.port == server.port
        assert await value_of(second, "SELECT 1") == 1
    assert server.is_running()


def test_two_callers_at_the_same_moment_start_one_server(server: LocalServer) -> None:
    servers = [server, replace(server)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(LocalServer.start, servers))
    assert servers[0].port == servers[1].port
    assert servers[0].is_running()


def test_the_file_of_a_killed_server_does_not_keep_it_from_starting(server: LocalServer) -> None:
    server.start()
    left = (server.data / "postmaster.pid").read_text()
    server.stop()
    lines = left.splitlines()
    lines[0] = str(unused_process_id())
    (server.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    server.start()
    assert server.is_running()


def unused_process_id() -> int:
    maximum = int(Path("/proc/sys/kernel/pid_max").read_text())
    return next(number for number in range(maximum - 1, 1, -1) if not Path(f"/proc/{number}").exists())


async def test_a_port_taken_in_between_is_replaced(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1]])
        monkeypatch.setattr("flowworker.database.local_server.free_port", lambda: next(ports, None) or free_port())
        server.start()
        assert server.port != taken.getsockname()[1]
    assert await value_of(server, "SELECT 1") == 1


def test_a_port_asked_for_that_is_taken_is_an_error_with_the_servers_words(server: LocalServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DatabaseUnavailableError, match="Address already in use"):
            replace(server, port=taken.getsockname()[1]).start()


def test_data_of_another_major_version_is_refused(server: LocalServer) -> None:
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(UsageError, match=r"was made by PostgreSQL 9, the binaries in .* are 1\d\."):
        server.start()


def test_an_interrupted_initdb_leaves_nothing_behind(server: LocalServer) -> None:
    draft = server.directory / "data.draft"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    server.start()
    assert server.is_running()
    assert not draft.exists()


@as_root
async def test_binaries_below_a_private_folder_are_copied_with_their_libraries(
    server: LocalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    (folder / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "copies"))
    installation = server.binaries.resolve().parent
    package = installation.parent
    shutil.copytree(installation, private / package.name / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    with replace(server, binaries=private / package.name / installation.name / "bin") as hidden:
        assert await value_of(hidden, "SELECT 1") == 1
    (copy,) = (folder / "copies").glob("flowworker-postgresql-*")
    assert (copy / libraries.name).is_dir() is libraries.is_dir()


@as_root
def test_a_directory_the_servers_user_cannot_reach_is_refused(server: LocalServer, folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    with pytest.raises(UsageError, match=r"may not enter .*private: choose another"):
        replace(server, directory=folder / "private" / "server").start()


@pytest.mark.parametrize("before", ["nothing", "a cluster that lets all in"])
async def test_only_we_are_let_in(folder: Path, before: str) -> None:
    place = folder / "server"
    if before != "nothing":
        with LocalServer(directory=place, trust=True) as open_server:
            await value_of(open_server, "CREATE TABLE kept AS SELECT 7 AS value")
    with LocalServer(directory=place) as server:
        assert await value_of(server, "SELECT current_user") == "postgres"
        for user in ("postgres", "anybody"):
            with pytest.raises(AuthenticationError):
                await connect(f"postgresql://{user}@127.0.0.1:{server.port}/postgres", application_name="test")
        assert stat.S_IMODE(server.password_file.stat().st_mode) == 0o600
        assert server.dsn().partition(":")[2] not in (place / "server.log").read_text()
    with LocalServer(directory=place) as again:
        expected = "SELECT 7" if before == "nothing" else "SELECT value FROM kept"
        assert await value_of(again, expected) == 7
