"""The cache outside the tree, and locks between processes."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where binaries are kept between runs and clones: `$XDG_CACHE_HOME/flowworker/cluster`, else below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flowworker" / "cluster"


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Let one process at a time do something; the kernel releases the lock of a process that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
