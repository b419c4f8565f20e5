"""What announcing changes of runs costs: sessions that start runs as fast as they can, for each choice of the install.

`python -m tests.bench.run_events` starts a PostgreSQL of its own that waits for the disk, as a real one does. The
choices take turns, because only figures of one run can be compared.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from flowworker.database.connection import Connection, connect
from flowworker.database.install import install
from flowworker.database.local_server import LocalServer, embedded_binaries
from flowworker.database.run_events import RunEventScope

FLOW = "SELECT pgflow.create_flow('started'); SELECT pgflow.add_step('started', 'one')"
START = "SELECT pgflow.start_flow('started', '1')"


async def start_runs(connection: Connection, until: float) -> int:
    """Start runs, each in a transaction of its own, until a moment; returns how many."""
    count = 0
    while time.monotonic() < until:
        await connection.execute(START)
        count += 1
    return count


async def rate(owner: Connection, sessions: list[Connection], scope: RunEventScope, seconds: float) -> float:
    """Runs per second that all sessions start together."""
    await install(owner, run_events=scope)
    until = time.monotonic() + seconds
    counts = await asyncio.gather(*(start_runs(session, until) for session in sessions))
    return sum(counts) / seconds


async def measure(dsn: str, *, sessions: int, rounds: int, seconds: float) -> dict[RunEventScope, list[float]]:
    """Rates by choice, one for each round."""
    owner = await connect(dsn, application_name="bench")
    await install(owner)
    await owner.execute(FLOW)
    starters = [await connect(dsn, application_name="bench") for _ in range(sessions)]
    rates: dict[RunEventScope, list[float]] = {scope: [] for scope in RunEventScope}
    for _ in range(rounds):
        for scope in RunEventScope:
            rates[scope].append(await rate(owner, starters, scope, seconds))
    for connection in (owner, *starters):
        await connection.close()
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowworker-bench-") as folder:
        Path(folder).chmod(0o755)
        with LocalServer(directory=Path(folder) / "server", binaries=embedded_binaries(), settings={}) as server:
            rates = asyncio.run(measure(server.dsn(), **vars(options)))
    nothing = statistics.median(rates[RunEventScope.NONE])
    for scope, found in rates.items():
        median = statistics.median(found)
        print(f"{scope:5} {median:8,.0f} runs/s  {median / nothing:5.2f}  {[round(one) for one in found]}")


if __name__ == "__main__":
    main()
