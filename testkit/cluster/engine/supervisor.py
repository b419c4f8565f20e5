"""PID 1 of an engine: `python -m testkit.cluster.engine.supervisor STATE SOCKET PROGRAMS`, in fresh namespaces.

Its end is the end of the daemon, of every container, and of all their mounts, links and firewall rules.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from testkit.cluster.children import LAST_LINES, tail
from testkit.cluster.engine.place import Place
from testkit.cluster.engine.runtime import held
from testkit.cluster.layout import LOOPBACK
from testkit.cluster.local.processes import ENVIRONMENT, Process, Processes
from testkit.cluster.local.relay import serve_relay

PATIENCE = 60.0
"""Seconds until the daemon answers."""
LOOK_EVERY = 0.1

COVERED = ("/etc/docker", "/opt")
"""What docker and its containerd write to whatever their options say."""
BRIDGE_NETWORK = "198.18.128.1/24"
NETWORKS = "base=198.18.144.0/20,size=24"
"""Addresses that no real network has, outside those of pods and services."""

WRAPPER = '#!/bin/sh\nexec "{python}" -I -S "{runtime}" "{runc}" "$@"\n'
NEEDED = "CAP_SYS_RESOURCE"
"""What privileged containers ask for, and some sandboxes have not got."""


def isolate(place: Place) -> None:
    """Hide the machine's folders behind those of the engine; its network has nothing but loopback."""
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in COVERED:
        own = place.private / folder.strip("/").replace("/", "-")
        own.mkdir(parents=True)
        _run("mount", "--bind", str(own), folder)
    _run("ip", "link", "set", "lo", "up")


def daemon_command(place: Place, programs: Path) -> list[str]:
    """How the daemon is started."""
    command = [
        str(programs / "dockerd"),
        f"--host=unix://{place.socket}",
        f"--data-root={place.data}",
        f"--cgroup-parent=/{place.group}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--bip={BRIDGE_NETWORK}",
        f"--default-address-pool={NETWORKS}",
        f"--userland-proxy-path={programs / 'docker-proxy'}",
        "--oom-score-adjust=0",
    ]
    if NEEDED in held(Path("/proc/self/status").read_text()):
        return command
    wrapper = WRAPPER.format(
        python=sys.executable, runtime=Path(__file__).with_name("runtime.py"), runc=shutil.which("runc")
    )
    place.runtime.write_text(wrapper)
    place.runtime.chmod(0o755)
    return [*command, f"--add-runtime=lessened={place.runtime}", "--default-runtime=lessened"]


async def supervise(place: Place, listening: socket.socket, programs: Path) -> int:
    """Start the daemon, say that it answers, and stay as long as it does; its exit code."""
    daemon = Processes().spawn(daemon_command(place, programs), place.log)
    if not await _answers(place, daemon):
        print(f"dockerd does not answer:\n{tail(place.log, LAST_LINES)}", file=sys.stderr)
        return 1
    port = listening.getsockname()[1]
    async with await serve_relay(listening, LOOPBACK, port):
        draft = place.ready.with_suffix(".draft")
        draft.write_text(json.dumps({"port": port, "programs": str(programs)}))
        draft.replace(place.ready)
        return await daemon.ended


async def _answers(place: Place, daemon: Process) -> bool:
    deadline = time.monotonic() + PATIENCE
    while daemon.is_running and time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.open_unix_connection(place.socket)
            writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            answer = b""
        if b"200 OK" in answer:
            return True
        await asyncio.sleep(LOOK_EVERY)
    return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=30)


def main(state: Path, listening: socket.socket, programs: Path) -> int:
    """Be PID 1."""
    place = Place(state)
    isolate(place)
    return asyncio.run(supervise(place, listening, programs))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), Path(sys.argv[3])))
