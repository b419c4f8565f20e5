"""A real PgBouncer, for what cannot work behind one in transaction mode."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from testkit.support.waiting import until
from tests.conftest import Database

from flowworker.database.local_server import free_port, unprivileged_account

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
"""Where Debian's package `pgbouncer` puts it; None where it is not installed."""

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = 5
server_reset_query = DISCARD ALL
server_reset_query_always = {reset}
"""


@asynccontextmanager
async def transaction_pooler(
    database: Database, *, mode: str = "transaction", reset: bool = True
) -> AsyncGenerator[str]:
    """A pooler in front of the database's server; gives the worker's connection string through it.

    Args:
        database: where it leads.
        mode: PgBouncer's `pool_mode`.
        reset: whether a session forgets everything between two transactions. By default PgBouncer lets a transaction
            find what another client's left behind: a LISTEN, a prepared statement.
    """
    port = free_port()
    parts = urlsplit(database.worker_dsn)
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as folder:
        users, settings = Path(folder) / "users.txt", Path(folder) / "pgbouncer.ini"
        users.write_text(f'"{parts.username}" ""\n')
        settings.write_text(
            CONFIGURATION.format(server=database.server.port, port=port, users=users, mode=mode, reset=int(reset))
        )
        os.chmod(folder, 0o755)
        process = await _start(settings)
        try:
            await until(lambda: _answers(port), "a pooler that accepts connections")
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _start(settings: Path) -> asyncio.subprocess.Process:
    """PgBouncer refuses to run as root, too."""
    assert PROGRAM is not None
    account = unprivileged_account().pw_name if os.geteuid() == 0 else None
    return await asyncio.create_subprocess_exec(
        PROGRAM, "-q", str(settings), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        user=account,
    )  # fmt: skip


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
