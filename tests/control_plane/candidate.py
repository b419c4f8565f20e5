"""A process that runs for a Lease and notes every few milliseconds whether it holds it.

Run with the kubeconfig, the namespace of the Lease, a name for itself, the file of its notes, and the three durations.
SIGTERM stops it in good order.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.leadership import Leadership
from flowworker_operator.cluster.lease import Timing

LEASE = "operator"
LOOK_EVERY = 0.005


def note_down(leadership: Leadership, notes: Path) -> None:
    """For ever, from a thread: when thawed, it looks before the event loop had its chance to renew anything."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        now = time.monotonic_ns()
        os.write(file, f"{now} {int(leadership.held)}\n".encode())
        time.sleep(LOOK_EVERY)


async def run(kubeconfig: Path, namespace: str, name: str, notes: Path, timing: Timing) -> None:
    async with Cluster.connect(kubeconfig) as cluster:
        leadership = Leadership(cluster, namespace=namespace, name=LEASE, identity=name, timing=timing)
        threading.Thread(target=note_down, args=(leadership, notes), daemon=True).start()
        running = asyncio.create_task(leadership.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.wait({running})


if __name__ == "__main__":
    _, kubeconfig, namespace, name, notes, lease, deadline, retry = sys.argv
    timing = Timing(lease=int(lease), deadline=float(deadline), retry=float(retry))
    asyncio.run(run(Path(kubeconfig), namespace, name, Path(notes), timing))
