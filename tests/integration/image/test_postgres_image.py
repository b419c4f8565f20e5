"""What the PostgreSQL image of the demo and the end-to-end tests promises."""

import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.support.waiting import until
from tests.integration.image.container import USER, Container

from flowworker.database.connection import Connection, connect
from flowworker.errors import DatabaseUnavailableError

pytestmark = [pytest.mark.image, pytest.mark.xdist_group("image"), pytest.mark.timeout(1200)]

IMAGE = "postgres"
PASSWORD = "of a test"


class Place:
    """A volume, a secret and a free port."""

    def __init__(self, folder: Path) -> None:
        for path in (*folder.parents[:2], folder):
            path.chmod(0o755)
        self.volume, self.secret = folder / "volume", folder / "secret"
        self.volume.mkdir(mode=0o777)
        self.volume.chmod(0o777)
        self.secret.mkdir()
        (self.secret / "password").write_text(PASSWORD)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    @contextmanager
    def server(self, container: Container) -> Generator[subprocess.Popen[bytes]]:
        """The server, ended as Kubernetes ends it: by the image's own stop signal."""
        command = container.command(
            *("-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1"),
            mounts={self.secret: "/run/secrets/postgres"},
            volumes={self.volume: "/var/lib/postgresql"},
        )
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield process
                process.send_signal(signal.SIGINT)
                process.wait(timeout=30)
            finally:
                process.kill()

    async def connection(self) -> Connection:
        """A connection of the superuser, as soon as there can be one."""

        async def attempt() -> "Connection | None":
            try:
                return await connect(
                    f"postgresql://postgres:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres",
                    application_name="test",
                )
            except DatabaseUnavailableError:
                return None

        return await until(attempt, "PostgreSQL accepts connections")


async def test_it_makes_its_data_once_and_finds_it_again(container: Container, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for tables in (0, 1):
        with place.server(container) as process:
            connection = await place.connection()
            query = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'"
            assert await connection.fetchval(query) == tables
            await connection.execute("CREATE TABLE IF NOT EXISTS mine ()")
            await connection.close()
        assert process.returncode == 0


async def test_sessions_do_not_hold_up_its_end(container: Container, tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.server(container) as process:
        connection = await place.connection()
    assert process.returncode == 0
    connection.terminate()


def test_without_a_password_it_says_what_to_mount(container: Container, tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.secret / "password").unlink()
    command = container.command(
        mounts={place.secret: "/run/secrets/postgres"}, volumes={place.volume: "/var/lib/postgresql"}, user=USER
    )
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    assert "/run/secrets/postgres/password" in done.stderr
