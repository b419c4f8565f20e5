"""Runs runc, for containers that want more than this machine may give: `runtime.py RUNC ARGUMENT...`.

A privileged container asks for every capability there is. On a machine that has lost one, itself a sandbox, runc
refuses to start it; so those that are lost are taken out of the request first.
"""

import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

# The standard library only: the interpreter starts for every container and every command in one.
NAMES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner"),
    *("sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice"),
    *("sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap"),
    *("mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf"),
    "checkpoint_restore",
)
"""Capabilities in the order of their numbers."""

FILES = {"--bundle": "config.json", "--process": ""}
"""Option of runc to the file below its value that says what is asked for: a container's, and that of a command."""


def held(status: str) -> frozenset[str]:
    """Capabilities that processes can still have, from the text of /proc/self/status."""
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return frozenset(f"CAP_{name.upper()}" for number, name in enumerate(NAMES) if mask >> number & 1)


def lessened(request: dict[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """A request without the capabilities that cannot be had; it is that of a container or that of a command."""
    process: dict[str, Any] = request.get("process", request)
    asked: dict[str, list[str]] = process.get("capabilities") or {}
    kept = {name: [one for one in wanted if one in allowed] for name, wanted in asked.items()}
    changed = {**process, "capabilities": kept}
    return {**request, "process": changed} if "process" in request else changed


def main(runc: str, arguments: Sequence[str]) -> None:
    """Lessen the request, then become runc."""
    allowed = held(Path("/proc/self/status").read_text())
    for option, value in pairwise(arguments):
        if option in FILES:
            file = Path(value, FILES[option])
            file.write_text(json.dumps(lessened(json.loads(file.read_text()), allowed)))
    os.execv(runc, [runc, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
