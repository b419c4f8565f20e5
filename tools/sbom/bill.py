"""A bill of materials in the format CycloneDX 1.6: the same input gives the same bytes."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from typing import Any, Literal
from urllib.parse import quote

from packaging.utils import canonicalize_name
from tools.sbom.licences import licence_of

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "sbom.flowworker.dev")
"""Serial numbers come from it and the content, since random ones would differ in each build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One thing, with the version that is inside."""

    name: str
    version: str
    purl: str
    kind: Literal["library", "container", "operating-system", "platform"] = "library"
    licence: str | None = None
    """An SPDX expression."""
    sha256: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict[str, str])

    def entry(self) -> dict[str, Any]:
        """As CycloneDX has it."""
        made: dict[str, Any] = {
            "type": self.kind,
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
        }
        if self.licence:
            made["licenses"] = [{"expression": self.licence}]
        if self.sha256:
            made["hashes"] = [{"alg": "SHA-256", "content": self.sha256}]
        if self.properties:
            made["properties"] = [{"name": name, "value": value} for name, value in sorted(self.properties.items())]
        return made


def python_package(metadata: Message) -> Component:
    """A distribution from PyPI, by its METADATA."""
    name, version = str(metadata["Name"]), str(metadata["Version"])
    purl = f"pkg:pypi/{canonicalize_name(name)}@{version}"
    return Component(name=name, version=version, purl=purl, licence=licence_of(metadata))


def bundled_sql(manifest: bytes) -> list[Component]:
    """The SQL that the wheel holds, by the manifest that tools/fetch_upstream.py leaves beside it."""
    versions: dict[str, str] = json.loads(manifest)["versions"]
    pgmq, pgflow = versions["pgmq"], versions["pgflow"]
    return [
        Component(name="pgmq", version=pgmq, purl=f"pkg:github/pgmq/pgmq@v{pgmq}", licence="PostgreSQL"),
        Component(
            name="@pgflow/core", version=pgflow, purl=f"pkg:npm/%40pgflow/core@{pgflow}", licence="Apache-2.0"
        ),
    ]  # fmt: skip


def debian_package(fields: Message, distribution: str) -> Component:
    """An installed package, by its paragraph in dpkg's status."""
    name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    purl = f"pkg:deb/{distribution}/{quote(name, safe='+')}@{quote(version, safe='')}?arch={architecture}"
    return Component(name=name, version=version, purl=purl.replace("+", "%2B"))


def bill(subject: Component, components: Iterable[Component], epoch: int) -> str:
    """The document.

    Args:
        subject: what consists of the components.
        components: in any order; one that is found twice counts once.
        epoch: seconds since 1970 that the document is dated with.
    """
    unique = {component.purl: component for component in components}
    entries = [unique[purl].entry() for purl in sorted(unique)]
    content = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "tools.sbom", "group": "flowworker"}]},
            "component": subject.entry(),
        },
        "components": entries,
        "dependencies": [
            {"ref": subject.purl, "dependsOn": sorted(unique)},
            *({"ref": purl} for purl in sorted(unique)),
        ],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(content, sort_keys=True))
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return json.dumps(head | content, indent=2, ensure_ascii=False) + "\n"
