"""Bills of materials: what they list, and that they follow the format."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tools.sbom.__main__ import ROOT, build_wheel, write


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


def read(file: Path, folder: Path) -> dict[str, Any]:
    """The bill of a file, which follows the format."""
    text = write(file, folder).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads(text)


def components(bill: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["purl"]: component for component in bill["components"]}


def test_a_wheel_lists_the_bundled_sql_with_its_licences(wheel: Path, tmp_path: Path) -> None:
    versions = json.loads((ROOT / "worker/flowworker/database/upstream/manifest.json").read_text())["versions"]
    bill = read(wheel, tmp_path)
    found = components(bill)
    assert found[f"pkg:github/pgmq/pgmq@v{versions['pgmq']}"]["licenses"] == [{"expression": "PostgreSQL"}]
    assert found[f"pkg:npm/%40pgflow/core@{versions['pgflow']}"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert bill["metadata"]["component"]["licenses"] == [{"expression": "Apache-2.0 AND PostgreSQL"}]


def test_a_wheels_bill_separates_what_it_always_brings_from_what_extras_bring(wheel: Path, tmp_path: Path) -> None:
    scopes = {
        component["name"]: component["properties"][0]["value"] for component in read(wheel, tmp_path)["components"]
    }
    assert (scopes["asyncpg"], scopes["pydantic_core"], scopes["kopf"]) == ("required", "required", "extra")
    assert "pytest" not in scopes
    assert "flowworker" not in scopes


def test_the_wheel_holds_the_text_of_every_licence_it_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.rpartition(".dist-info/licenses/")[2] for name in archive.namelist() if "/licenses/" in name}
    assert names == {"LICENSE", "LICENSES/pgmq.txt"}


def test_the_same_file_has_the_same_bill(wheel: Path, tmp_path: Path) -> None:
    first = write(wheel, tmp_path).read_bytes()
    assert write(wheel, tmp_path).read_bytes() == first


DPKG = """Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 1:14.2-3+b1

Package: tini
Status: install ok installed
Architecture: amd64
Version: 0.19
"""


def package(name: str, version: str) -> str:
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"


SITE = "opt/x/lib/python3.13/site-packages"
BASE = {
    "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "var/lib/dpkg/status": DPKG,
    f"{SITE}/old-1.dist-info/METADATA": package("old", "1"),
    f"{SITE}/pip-25.dist-info/METADATA": package("pip", "25"),
    "usr/lib/python3/dist-packages/emptied-1.dist-info/METADATA": package("emptied", "1"),
}
TOP = {
    f"{SITE}/.wh.old-1.dist-info": "",
    f"{SITE}/pip-25.dist-info/.wh.METADATA": "",
    f"{SITE}/New_Name-2.dist-info/METADATA": package("New_Name", "2"),
    f"{SITE}/New_Name-2.dist-info/sub/METADATA": package("vendored", "1"),
    "usr/lib/python3/dist-packages/.wh..wh..opq": "",
    "usr/lib/python3/dist-packages/kept-1.dist-info/METADATA": package("kept", "1"),
}


def tar(files: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A docker-archive of two layers."""
    config = {"config": {"Env": ["PATH=/bin", "PYTHON_VERSION=3.13.9"], "Labels": None}}
    manifest = [{"Config": "c.json", "Layers": ["1.tar", "2.tar"], "RepoTags": ["localhost/thing:1"]}]
    contents = {
        "c.json": json.dumps(config),
        "1.tar": tar(BASE),
        "2.tar": tar(TOP),
        "manifest.json": json.dumps(manifest),
    }
    archive = tmp_path / "thing.tar"
    archive.write_bytes(tar(contents))
    return archive


def test_an_image_lists_what_a_container_would_see(image: Path, tmp_path: Path) -> None:
    bill = read(image, tmp_path)
    assert sorted(components(bill)) == [
        "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2-3%2Bb1?arch=amd64",
        "pkg:deb/debian/tini@0.19?arch=amd64",
        "pkg:generic/debian@13",
        "pkg:generic/python@3.13.9",
        "pkg:pypi/kept@1",
        "pkg:pypi/new-name@2",
    ]
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["type"]) == ("thing", "container")
