"""What an image consists of, read from its docker-archive: no engine and no scanner is needed.

The layers are laid over each other as an engine does, of which only three kinds of files count: dpkg's list of
packages, the metadata of Python distributions, and the manifest of the SQL that our wheel bundles.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

from tools.sbom.bill import Component, bundled_sql, debian_package, python_package

STATUS = "var/lib/dpkg/status"
RELEASES = ("usr/lib/os-release", "etc/os-release")
PACKAGE = re.compile(r"(?:.*/)?(?:site|dist)-packages/[^/]+\.dist-info/METADATA")
SQL = re.compile(r".*/flowworker/database/upstream/manifest\.json")
DELETED, EMPTIED = ".wh.", ".wh..wh..opq"


def read_image(archive: Path) -> tuple[Component, list[Component]]:
    """The image, and its components."""
    with tarfile.open(archive) as image:
        (described,) = json.loads(_content(image, "manifest.json"))
        raw = _content(image, described["Config"])
        files = _files(image, described["Layers"])
    configuration = json.loads(raw)["config"]
    labels: Mapping[str, str] = configuration.get("Labels") or {}
    digest = hashlib.sha256(raw).hexdigest()
    name = described["RepoTags"][0].rpartition(":")[0].rpartition("/")[2]
    subject = Component(
        kind="container",
        name=name,
        version=labels.get("org.opencontainers.image.version", ""),
        purl=f"pkg:oci/{name}@sha256%3A{digest}",
        licence=labels.get("org.opencontainers.image.licenses"),
        sha256=digest,
        properties={"flowworker:digest-of": "image configuration"},
    )
    return subject, [*_components(files), *_interpreter(configuration)]


def _content(image: tarfile.TarFile, name: str) -> bytes:
    file = image.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} in the archive is no file")
    return file.read()


def _files(image: tarfile.TarFile, layers: list[str]) -> dict[str, bytes]:
    """Content of the files that count, as a container would see them."""
    seen: dict[str, bytes] = {}
    for layer in layers:
        added: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(_content(image, layer))) as content:
            for member in content:
                path = PurePosixPath("/", member.name).relative_to("/")
                if path.name.startswith(DELETED):
                    _delete(seen, path)
                elif _counts(str(path)) and (file := content.extractfile(member)):
                    added[str(path)] = file.read()
        seen |= added
    return seen


def _counts(path: str) -> bool:
    return path == STATUS or path in RELEASES or bool(PACKAGE.fullmatch(path) or SQL.fullmatch(path))


def _delete(seen: dict[str, bytes], marker: PurePosixPath) -> None:
    """Forget what a layer takes away: a file, a folder, or all that lower layers have in a folder."""
    gone = marker.parent if marker.name == EMPTIED else marker.with_name(marker.name.removeprefix(DELETED))
    for path in [path for path in seen if PurePosixPath(path).is_relative_to(gone)]:
        del seen[path]


def _components(files: Mapping[str, bytes]) -> Iterator[Component]:
    release = _release(next((files[path].decode() for path in RELEASES if path in files), ""))
    distribution = release.get("ID", "debian")
    if release:
        version = release.get("VERSION_ID", "")
        purl = f"pkg:generic/{distribution}@{version}"
        yield Component(kind="operating-system", name=distribution, version=version, purl=purl)
    for path, content in files.items():
        if PACKAGE.fullmatch(path):
            yield python_package(Parser().parsestr(content.decode()))
        elif SQL.fullmatch(path):
            yield from bundled_sql(content)
        elif path == STATUS:
            for paragraph in content.decode().strip().split("\n\n"):
                yield debian_package(Parser().parsestr(paragraph), distribution)


def _release(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip("\"'") for name, _, value in lines}


def _interpreter(configuration: Mapping[str, Any]) -> Iterator[Component]:
    """The official images build Python themselves, which is in no list of packages."""
    environment: list[str] = configuration.get("Env") or []
    version = next((entry.partition("=")[2] for entry in environment if entry.startswith("PYTHON_VERSION=")), None)
    if version:
        purl = f"pkg:generic/python@{version}"
        yield Component(kind="platform", name="python", version=version, purl=purl, licence="PSF-2.0")
