"""Environments of their own below build/, for programs whose packages are heavy or at odds with ours."""

import hashlib
import subprocess
import sys
from pathlib import Path


def environment(requirements: Path, folder: Path) -> Path:
    """The Python of an environment with what a lock names; made anew when the lock changes."""
    made = place(requirements, folder)
    python, ready = made / "bin" / "python", made / "ready"
    if not ready.exists():
        print(f"installing {requirements.name} (once)", flush=True)
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", made], check=True)
        install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--require-hashes")
        subprocess.run([*install, "--python", python, "--requirement", requirements], check=True)
        ready.touch()
    return python


def is_ready(requirements: Path, folder: Path) -> bool:
    """Whether the environment with what a lock names is there."""
    return (place(requirements, folder) / "ready").exists()


def place(requirements: Path, folder: Path) -> Path:
    """Where the environment with what a lock names is, or will be."""
    return folder / hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
