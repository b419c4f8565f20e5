"""The machine's side of a start and of an end: files, namespaces, and everything that `undo` records."""

import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

from testkit.cluster import janitor, proc
from testkit.cluster.backend import STATE_VARIABLE, Wishes
from testkit.cluster.certificates import ADMIN, node_identities, write_identities, write_private
from testkit.cluster.configuration import control_plane_files, node_files, write_files
from testkit.cluster.engine import place
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.layout import LOOPBACK, Layout, control_group
from testkit.cluster.local.cgroups import create_groups, remove_groups
from testkit.cluster.local.leftovers import find_leftovers
from testkit.cluster.local.undo import PRIVATE_FOLDERS, Undo

SUPERVISOR = "testkit.cluster.local.supervisor"
SUPERVISORS = (SUPERVISOR, place.SUPERVISOR)
"""Of all that change the machine and write it down."""
ROOT = Path(__file__).resolve().parents[3]
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
KWOK = "--kwok"

START_PATIENCE = 600.0
"""Seconds after which a start that has neither succeeded nor failed is given up; every step has its own deadline."""
END_PATIENCE = 30.0
"""Seconds that the processes of a killed node may take to be gone."""
LOOK_EVERY = 0.05


@contextmanager
def only_one(state: Path, *, patience: float) -> Generator[None]:
    """Let one process at a time bring this cluster up or take it down.

    The lock is the name of a socket: the kernel frees it with the process, and it is no file to leave behind.

    Args:
        state: State folder of the cluster.
        patience: Seconds to wait for another one.

    Raises:
        ClusterError: another one is still at it.
    """
    deadline = time.monotonic() + patience
    with socket.socket(socket.AF_UNIX) as lock:
        while not _takes(lock, f"\0flowworker-cluster-{sha256(str(state).encode()).hexdigest()[:16]}"):
            if time.monotonic() > deadline:
                raise ClusterError("another process brings this cluster up or takes it down: wait for it")
            time.sleep(LOOK_EVERY)
        yield


def begin(state: Path, folders: Sequence[str] = PRIVATE_FOLDERS) -> None:
    """Make the state folder and change the machine, which was written down before.

    Args:
        state: State folder of what begins.
        folders: Folders of the machine that are needed, whatever is in them.
    """
    undo = Undo.plan(folders=[*folders, str(state.parent)])
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    undo.write(undo_file(state))
    undo.change()
    create_groups(control_group(state))


def find_node(state: Path, supervisor: str = SUPERVISOR) -> int | None:
    """Pid, as the machine sees it, of the node's PID 1; found without any file that could be out of date."""
    return next((pid for pid in proc.find(supervisor, state) if proc.is_first(pid)), None)


def undo_file(state: Path) -> Path:
    """The record of what was changed; it also marks the folder as a cluster's."""
    return state / "undo.json"


def ready_file(state: Path) -> Path:
    """Appears when the cluster is up; seconds of every step of the start."""
    return state / "ready.json"


def prepare(layout: Layout, kubeconfig: Path, port: int) -> None:
    """Write everything that the daemons read, and a kubeconfig for the machine's side."""
    layout.logs.mkdir()
    layout.run.mkdir()
    layout.save()
    write_identities(layout, node_identities(layout), datetime.now(UTC))
    write_files(layout, control_plane_files(layout, secrets.token_bytes(32)))
    write_files(layout, node_files(layout, open_files=getrlimit(RLIMIT_NOFILE)[1]))
    document = json.loads(layout.kubeconfig(ADMIN).read_bytes())
    document["clusters"][0]["cluster"]["server"] = f"https://{LOOPBACK}:{port}"
    write_private(kubeconfig, json.dumps(document, indent=1).encode())


def launch(layout: Layout, wishes: Wishes, pause: Path, listening: socket.socket) -> None:
    """Start PID 1 in fresh namespaces and wait until the cluster is up.

    Raises:
        StartError: it did not come up; says why.
    """
    log = layout.log("supervisor")
    images = [str(image.resolve()) for image in (pause, *wishes.images)]
    options = [KWOK] if wishes.kwok else []
    command = [sys.executable, "-m", SUPERVISOR, str(layout.state), str(listening.fileno()), *options, *images]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*UNSHARE, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
    deadline = time.monotonic() + START_PATIENCE
    while not ready_file(layout.state).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"the cluster did not come up:\n{log.read_text()}")
        time.sleep(LOOK_EVERY)
    # It runs on without us; killing PID 1 ends it as well.
    process.returncode = 0


def remove(state: Path, supervisor: str = SUPERVISOR) -> list[str]:
    """End all that ends with a supervisor, whatever state it is in, and give the machine back.

    Returns:
        What is left behind after that.

    Raises:
        ClusterError: the folder is not a cluster's.
    """
    undo = Undo.read(undo_file(state))
    if undo is None and state.exists() and any(state.iterdir()):
        raise ClusterError(
            f"{state} holds something that is not a cluster's, so nothing was removed: choose another folder by "
            f"{STATE_VARIABLE}"
        )
    janitor.dismiss(state)
    with proc.held_namespaces(find_node(state, supervisor)) as namespaces:
        # With PID 1 ends every process of the namespaces, and after it the one that waits for it outside.
        proc.end(proc.find(supervisor, state), signal.SIGKILL, END_PATIENCE)
        remove_groups(control_group(state))
        if state.exists():
            shutil.rmtree(state)
        if undo and _hand_on(undo):
            undo = None
        if undo:
            undo.revert()
        return find_leftovers(state, namespaces, undo)


def _hand_on(undo: Undo) -> bool:
    """Whether another cluster is up, which still needs what this one has changed and will revert it."""
    for state in (state for supervisor in SUPERVISORS for state in proc.find_states(supervisor)):
        if heir := Undo.read(undo_file(state)):
            heir.inherit(undo).write(undo_file(state))
            return True
    return False


def _takes(lock: socket.socket, name: str) -> bool:
    try:
        lock.bind(name)
    except OSError:
        return False
    return True
