"""Takes a cluster down when its owner has ended: `python -m testkit.cluster.janitor STATE OWNER BACKEND`.

The owner may be killed at any moment, a test run by its CI for example; the janitor is in no group with it.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from testkit.cluster import proc
from testkit.cluster.backend import CHOICE_VARIABLE, STATE_VARIABLE, BackendName

MODULE = "testkit.cluster.janitor"
ROOT = Path(__file__).resolve().parents[2]


def engage(state: Path, owner: int, backend: BackendName) -> None:
    """Have the cluster taken down when its owner ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(state), str(owner), backend],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # It is not waited for: it outlives us.
    process.returncode = 0


def dismiss(state: Path) -> None:
    """End the janitors of a cluster that goes."""
    proc.end(proc.find(MODULE, state), signal.SIGKILL, patience=10.0)


def main(state: str, owner: int, backend: str) -> None:
    """Wait, then take down."""
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        pass
    else:
        select.select([handle], [], [])
    environment: Mapping[str, str] = {**os.environ, STATE_VARIABLE: state, CHOICE_VARIABLE: backend}
    os.execve(sys.executable, [sys.executable, "-m", "testkit.cluster", "down"], environment)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
