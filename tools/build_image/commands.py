"""Running other programs, and saying plainly what to do when one is missing."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

PACKAGES: Mapping[str, str] = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "runc": "runc"}
"""Program to the Debian or Ubuntu package that brings it."""


class BuildError(SystemExit):
    """The image cannot be built; the message says why and what to do."""


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: Path | None = None) -> None:
    """Run a command in full view, or with its output in a file.

    Raises:
        BuildError: It is missing or failed.
    """
    with log.open("wb") if log else nullcontext() as file:
        try:
            ended = subprocess.run(
                command, check=False, env={**os.environ, **(environment or {})}, stdout=file, stderr=file
            )
        except FileNotFoundError:
            raise BuildError(missing([command[0]])) from None
    if ended.returncode:
        place = f"in {log}" if log else "above"
        raise BuildError(f"{' '.join(command[:2])} failed with exit code {ended.returncode}; its output is {place}")


def output(command: Sequence[str], *, deadline: float = 30.0) -> str | None:
    """What a command prints, or None when it is missing, fails or exceeds the deadline (seconds)."""
    try:
        done = subprocess.run(
            command, check=True, timeout=deadline, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def absent(programs: Sequence[str]) -> list[str]:
    """Those of the programs that are not on PATH."""
    return [program for program in programs if shutil.which(program) is None]


def missing(programs: Sequence[str]) -> str:
    """The error message for a machine that lacks the programs."""
    packages = " ".join(PACKAGES.get(program, program) for program in programs)
    return (
        f"{' and '.join(programs)} not found. Run 'make setup-image' as root, "
        f"or install it with the system's package manager (Debian, Ubuntu: apt-get install {packages})."
    )


def install(programs: Sequence[str]) -> None:
    """Install what is absent of the programs with apt.

    Raises:
        BuildError: Not root, no apt here, or apt failed.
    """
    wanted = absent(programs)
    if not wanted:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BuildError(missing(wanted))
    packages = [PACKAGES[program] for program in wanted]
    print(f"installing {' '.join(packages)} with apt", flush=True)
    run(["apt-get", "update", "--quiet=2"])
    run(
        ["apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", *packages],
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )
