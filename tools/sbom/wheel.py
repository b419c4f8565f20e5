"""What a wheel consists of: itself, the SQL it bundles, and the packages it brings when it is installed."""

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.message import Message
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.sbom.bill import Component, bundled_sql, python_package

LOCKED = re.compile(r"^([A-Za-z0-9._-]+==[^\\\n]+)", re.MULTILINE)


def read_wheel(wheel: Path) -> tuple[Component, list[Component]]:
    """The wheel, and its components: dependencies have the versions that are locked and tested.

    Those that only an extra asks for say so in a property.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
        bundled = bundled_sql(archive.read("flowworker/database/upstream/manifest.json"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    bundled = [replace(sql, properties={"flowworker:scope": "bundled"}) for sql in bundled]
    return replace(python_package(metadata), sha256=digest), [*bundled, *_dependencies(metadata)]


def _dependencies(metadata: Message) -> Iterator[Component]:
    always = _needed(metadata, [""])
    for name in sorted(_needed(metadata, ["", *(metadata.get_all("Provides-Extra") or [])])):
        scope = "required" if name in always else "extra"
        yield replace(_installed(name), properties={"flowworker:scope": scope})


def _needed(metadata: Message, extras: Iterable[str]) -> set[str]:
    """Names of all that is installed along, directly or not; what another platform alone needs is left out."""
    found: set[str] = set()
    waiting = list(_direct(metadata, extras))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = f"{name}[{','.join(sorted(requirement.extras))}]"
        if wanted not in found:
            found.add(wanted)
            waiting += _direct(_metadata(name), ["", *requirement.extras])
    return {wanted.partition("[")[0] for wanted in found} - {canonicalize_name(str(metadata["Name"]))}


def _direct(metadata: Message, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def _metadata(name: str) -> Message:
    return Parser().parsestr(distribution(name).read_text("METADATA") or "")


def _installed(name: str) -> Component:
    return python_package(_metadata(name))


def locked(requirements: Iterable[Path]) -> list[Component]:
    """What the images get from PyPI, as installed here by `make setup` from the same versions.

    Raises:
        SystemExit: a locked package is not installed here in that version.
    """
    found: dict[str, Component] = {}
    for file in requirements:
        for requirement in map(Requirement, LOCKED.findall(file.read_text())):
            if requirement.marker is None or requirement.marker.evaluate():
                found[requirement.name] = _as_locked(requirement, file)
    return list(found.values())


def _as_locked(requirement: Requirement, file: Path) -> Component:
    try:
        component = _installed(requirement.name)
    except PackageNotFoundError:
        component = None
    if component is None or component.version not in requirement.specifier:
        has = component.version if component else "nothing"
        raise SystemExit(f"{file.name} wants {requirement}, and {has} is installed: run 'make setup'")
    return component
