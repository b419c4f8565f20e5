"""Build the daemons of a cluster with Go, once: `python -m testkit.cluster.binaries [control-plane|node|kind|all]`.

Binaries are kept outside the tree under a key of everything that goes into them, so a clone that has not changed its
module files builds nothing, and two processes that want the same build it once.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from testkit.cluster.errors import BuildError
from testkit.cluster.programs import SETS, Family, family_of
from tools.cache import cache_folder, locked

Report = Callable[[str], None]

ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
"""No C compiler, no change of the module files, no other Go than the one that is there."""


def to_stderr(line: str) -> None:
    """Show progress at once."""
    print(line, file=sys.stderr, flush=True)


def build(programs: Iterable[str], report: Report = to_stderr) -> dict[str, Path]:
    """Paths of programs by name; builds those that are not in the cache.

    Args:
        programs: names, for example one of `programs.SETS`.
        report: takes one line of progress at a time.

    Raises:
        BuildError: Go is missing or too old, or a build failed.
    """
    go = _go_version()
    return {program: _build_once(program, go, report) for program in programs}


def content_key(family: Family, go: str) -> str:
    """Names everything that goes into the binaries of a family."""
    digest = hashlib.sha256()
    for source in sorted(path for path in family.folder.iterdir() if path.suffix in {".mod", ".sum", ".go"}):
        digest.update(f"{source.name}\0".encode() + source.read_bytes() + b"\0")
    settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    digest.update("\0".join([*family.flags, *settings, go]).encode())
    return digest.hexdigest()[:16]


def _build_once(program: str, go: str, report: Report) -> Path:
    family = family_of(program)
    _check_go(family, go)
    target = cache_folder() / f"{family.name}-{family.version}-{content_key(family, go)}" / program
    if not target.exists():
        with locked(target.parent / ".lock"):
            # Another process may have built it while this one waited.
            if not target.exists():
                _build(program, family, target, report)
    return target


def _build(program: str, family: Family, target: Path, report: Report) -> None:
    report(f"building {program} {family.version} (minutes when Go's own cache is empty)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / program
        done = subprocess.run(
            ["go", "build", *family.flags, "-o", draft, family.packages[program]],
            cwd=family.folder,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise BuildError(
                f"{program} could not be built in {family.folder}. If Go's module proxy cannot be reached, set "
                f"GOPROXY to one that can; if the disk is full, make room (5 GB). Go said:\n{done.stderr[-4000:]}"
            )
        draft.replace(target)
    report(f"built {program} in {time.monotonic() - started:.0f} s: {target}")


def _go_version() -> str:
    """Version, system and architecture, for example go1.26.8 linux amd64."""
    if shutil.which("go") is None:
        raise BuildError("Go is needed to build Kubernetes and is not on PATH: install it from https://go.dev/dl/")
    asked = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
    answer = subprocess.run(asked, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=True)
    return " ".join(answer.stdout.split())


def _check_go(family: Family, go: str) -> None:
    if _numbers(go.split()[0]) < _numbers(family.go):
        raise BuildError(
            f"{family.name} needs Go {family.go}, and the one on PATH is {go}: install a newer one from "
            "https://go.dev/dl/"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Numbers of a version of Go; of a release candidate those of its release."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def main(arguments: list[str]) -> None:
    """Build a set and print where its programs are."""
    names = arguments or ["node"]
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise SystemExit(f"unknown set {unknown[0]!r}; there are {', '.join(SETS)}")
    try:
        for path in build(dict.fromkeys(program for name in names for program in SETS[name])).values():
            print(path)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
