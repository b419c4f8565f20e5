"""Image archives made without a container engine: one static program in one layer.

The format is docker-archive, which `ctr images import`, `kind load image-archive` and `docker load` all read.
"""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testkit.cluster.configuration import PAUSE_IMAGE
from testkit.cluster.errors import BuildError

TOOLS_IMAGE = "localhost/tools:e2e"
"""A shell and the usual small programs, for pods of tests."""

PAUSE_SOURCE = Path(__file__).resolve().parent.parent / "images" / "pause" / "pause.c"
BUSYBOX = Path("/bin/busybox")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An image of one layer."""

    name: str
    """Full name with host part and fixed tag, so that it is not looked for in a registry."""
    files: Mapping[str, bytes]
    """Path without leading slash to an executable."""
    entrypoint: Sequence[str]
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path to target of a symbolic link."""
    folders: Sequence[str] = ()
    """Folders that any user may write to."""
    user: str = "65535:65535"


def pause_archive(folder: Path) -> Path:
    """Compile the pause program, unless the folder has it, and return its image.

    Raises:
        BuildError: there is no C compiler, or it cannot link statically.
    """
    key = hashlib.sha256(PAUSE_SOURCE.read_bytes()).hexdigest()[:12]
    archive = folder / f"pause-{key}.tar"
    if not archive.exists():
        program = _compile(PAUSE_SOURCE, folder / f"pause-{key}")
        write_archive(archive, Contents(name=PAUSE_IMAGE, files={"pause": program}, entrypoint=["/pause"]))
    return archive


def tools_archive(folder: Path) -> Path:
    """An image with the machine's static BusyBox.

    Raises:
        BuildError: it is not installed.
    """
    if not BUSYBOX.exists():
        raise BuildError(f"{BUSYBOX} is missing: install busybox-static (`python -m testkit.cluster setup` does)")
    program = BUSYBOX.read_bytes()
    archive = folder / f"tools-{hashlib.sha256(program).hexdigest()[:12]}.tar"
    if not archive.exists():
        listing = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=30)
        links = {f"bin/{name}": "busybox" for name in listing.stdout.split() if name != "busybox"}
        contents = Contents(
            name=TOOLS_IMAGE, files={"bin/busybox": program}, entrypoint=["/bin/sh"], links=links, folders=["tmp"]
        )
        write_archive(archive, contents)
    return archive


def write_archive(path: Path, contents: Contents) -> None:
    """Write an image as a docker-archive; equal contents give equal bytes."""
    layer = _layer(contents)
    configuration = json.dumps(_configuration(contents, layer)).encode()
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [contents.name], "Layers": ["layer.tar"]}]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with tarfile.open(draft, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, name, configuration)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    draft.replace(path)


def _configuration(contents: Contents, layer: bytes) -> dict[str, Any]:
    return {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": {"User": contents.user, "Entrypoint": list(contents.entrypoint), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }


def _layer(contents: Contents) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in contents.folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            layer.addfile(entry)
        for name, content in contents.files.items():
            _add(layer, name, content, mode=0o755)
        for name, target in contents.links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _compile(source: Path, program: Path) -> bytes:
    if shutil.which("gcc") is None:
        raise BuildError("gcc is missing: install gcc and libc6-dev (`python -m testkit.cluster setup` does)")
    program.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BuildError(f"{source} does not compile:\n{done.stderr}")
    return program.read_bytes()
