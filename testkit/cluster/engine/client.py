"""Container engines as programs of this machine reach them."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENGINES = ("docker", "podman")
OLD_GROUPS = ("1", "v1")
PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A container engine."""

    program: str
    """Its client: `docker` or `podman`, or a path of one."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What reaches it, for every program that uses it; empty for the machine's own."""
    port: int = 0
    """Where the API server of a cluster has to listen to be reached from this machine; 0: anywhere."""

    @property
    def name(self) -> str:
        """Its name for kind, and for people."""
        return Path(self.program).name


def first_answering() -> str | None:
    """The first of the machine's container engines that answers."""
    return next((name for name in ENGINES if answers(name)), None)


def answers(program: str) -> bool:
    """Whether an engine of the machine is there and, where it has a daemon, the daemon answers."""
    return _said(program, "info") is not None


def has_old_groups(program: str) -> bool:
    """Whether the machine of an engine, which may be a virtual one, has control groups of version 1."""
    template = "{{.CgroupVersion}}" if program == "docker" else "{{.Host.CgroupsVersion}}"
    return (_said(program, "info", "--format", template) or "").strip() in OLD_GROUPS


def _said(program: str, *arguments: str) -> str | None:
    if shutil.which(program) is None:
        return None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
