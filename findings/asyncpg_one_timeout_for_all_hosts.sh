#!/usr/bin/env bash
# asyncpg: the timeout of `connect` covers all hosts of a connection string together.
#
# One would guess that `timeout` bounds each attempt, as libpq's `connect_timeout` does, so that a string with two hosts
# reaches the second one when the first does not answer.
# True is that one timeout runs for the whole call: a first host that accepts and stays silent uses it up, and the second
# one is never tried, however healthy it is.
# It matters here because a string with several hosts is how people give a worker its standby: after a failover to the
# second host, a first host that swallows packets keeps every attempt to connect from reaching it. Order the hosts with
# care, or put something in front that refuses instead of staying silent.
#
# Needs Python 3.11 or newer. Exits with 0 while the behaviour is as said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import select
import socket
import sys
import time

import asyncpg

TIMEOUT = 2.0


async def main() -> bool:
    hosts = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]  # the kernel accepts, nothing ever answers
    places = ",".join(f"127.0.0.1:{host.getsockname()[1]}" for host in hosts)
    began = time.monotonic()
    try:
        await asyncpg.connect(f"postgresql://user@{places}/database?sslmode=disable", timeout=TIMEOUT)
    except Exception as error:  # the error is what is looked at
        took, outcome = time.monotonic() - began, error
    tried = [host in select.select([host], [], [], 0)[0] for host in hosts]
    print(f"asyncpg {asyncpg.__version__}: {type(outcome).__name__} after {took:.1f} s; tried first, second: {tried}")
    return isinstance(outcome, TimeoutError) and tried == [True, False] and took < 2 * TIMEOUT


as_said = asyncio.run(main())
print("as said" if as_said else "NOT as said: the finding is out of date")
sys.exit(0 if as_said else 1)
PYTHON
