"""The machine's side of an engine's start and of its end."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from testkit.cluster.engine.client import Engine
from testkit.cluster.engine.place import SUPERVISOR, Place
from testkit.cluster.engine.supervisor import COVERED
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.layout import LOOPBACK
from testkit.cluster.local import launch
from testkit.cluster.packages import ENGINE, check, check_root
from tools.cache import cache_folder, locked

MODULES = "/lib/modules"
"""A folder that kind gives to its nodes; docker makes it where it is missing."""

PACKAGE = ".".join(("docker", "io"))
"""Debian's package of docker; in parts, because whole it is the name of a registry, which no file may contain."""
PROGRAMS = ("docker", "dockerd", "docker-proxy")

START_PATIENCE = 90.0
LOOK_EVERY = 0.05
FETCH_PATIENCE = 300.0


def start(state: Path) -> Engine:
    """Start an engine in namespaces of its own, which nothing of the machine's network reaches.

    Raises:
        ClusterError: something is missing, or it did not start.
    """
    check_root()
    check(ENGINE)
    programs = _programs()
    launch.begin(state, folders=[MODULES, *COVERED])
    place = Place(state)
    try:
        with socket.create_server((LOOPBACK, 0)) as listening:
            _launch(place, programs, listening)
    except BaseException:
        stop(state)
        raise
    return _engine(place)


def find(state: Path) -> Engine | None:
    """The engine whose state lies here, if it runs."""
    place = Place(state)
    if launch.find_node(state, SUPERVISOR) is None or not place.ready.exists():
        return None
    return _engine(place)


def stop(state: Path) -> None:
    """End it with all that it has started and kept, whatever state it is in; nothing to end is fine.

    Raises:
        ClusterError: something is left behind; says what.
    """
    if not state.exists():
        return
    if left := launch.remove(state, SUPERVISOR):
        raise ClusterError("left behind:\n" + "\n".join(f"  {line}" for line in left))


def _engine(place: Place) -> Engine:
    ready = json.loads(place.ready.read_text())
    path = f"{ready['programs']}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    reached = {"PATH": path, "DOCKER_HOST": f"unix://{place.socket}", "DOCKER_CONFIG": str(place.private / "client")}
    return Engine(program=f"{ready['programs']}/docker", environment=reached, port=ready["port"])


def _launch(place: Place, programs: Path, listening: socket.socket) -> None:
    arguments = [str(place.state), str(listening.fileno()), str(programs)]
    with place.log.open("ab") as output:
        process = subprocess.Popen(
            [*launch.UNSHARE, sys.executable, "-m", SUPERVISOR, *arguments],
            cwd=launch.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
    deadline = time.monotonic() + START_PATIENCE
    while not place.ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"docker did not start:\n{place.log.read_text(errors='replace')[-4000:]}")
        time.sleep(LOOK_EVERY)
    # It runs on without us; killing PID 1 ends it as well.
    process.returncode = 0


def _programs() -> Path:
    """Folder with docker's programs, out of the distribution's package; unpacked, so that no service is started."""
    version = _version()
    target = cache_folder() / f"docker-{version.replace(':', '-')}"
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            _unpack(f"{PACKAGE}={version}", target)
    return target


def _version() -> str:
    """The newest that apt knows, or that was unpacked before apt forgot its lists."""
    said = _run(["apt-cache", "show", "--no-all-versions", PACKAGE], check=False)
    found = [line.split()[1] for line in said.splitlines() if line.startswith("Version:")]
    if found:
        return found[0]
    kept = sorted(path.name.removeprefix("docker-") for path in cache_folder().glob("docker-*") if path.is_dir())
    if kept:
        return kept[-1]
    raise ClusterError(f"apt knows no package {PACKAGE}: run `apt-get update`, or start docker yourself")


def _unpack(package: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        # As root: apt's own user cannot write here.
        _run(["apt-get", "download", "--quiet=2", "-o", "APT::Sandbox::User=root", package], folder=Path(work))
        (archive,) = Path(work).glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), f"{work}/tree"])
        draft = Path(work, "programs")
        draft.mkdir()
        for program in PROGRAMS:
            (found,) = Path(work, "tree", "usr").glob(f"*/{program}")
            shutil.copy2(found, draft / program)
        draft.replace(target)


def _run(command: list[str], *, folder: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=FETCH_PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        raise ClusterError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
