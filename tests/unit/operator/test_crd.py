"""The CRD: structural, bounded, described, and what the models say."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import generate_crd

from flowworker_operator.api.crd import custom_resource_definition

CRD = custom_resource_definition()
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]

FORBIDDEN = {"$ref", "$defs", "title", "anyOf", "oneOf", "allOf", "const", "exclusiveMinimum", "prefixItems"}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


NODES = {path: node for part in ("spec", "status") for path, node in nodes(ROOT["properties"][part], part)}


def test_the_file_is_up_to_date() -> None:
    assert not generate_crd.outdated(), "run `make generate`"


def test_a_file_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "crd.yaml"
    shutil.copy(generate_crd.TARGET, copy)
    monkeypatch.setattr(generate_crd, "TARGET", copy)
    assert not generate_crd.outdated()
    copy.write_text(copy.read_text() + "# by hand\n")
    assert generate_crd.outdated()


def test_the_check_of_make_verify_succeeds_when_all_is_well() -> None:
    subprocess.run([sys.executable, str(Path(generate_crd.__file__)), "--check"], check=True, timeout=30)


def test_the_yaml_says_the_same_and_points_nowhere() -> None:
    text = generate_crd.rendered()
    assert yaml.safe_load(text) == CRD
    assert "&id" not in text


@pytest.mark.parametrize("path", NODES)
def test_every_part_is_structural(path: str) -> None:
    node = NODES[path]
    assert not FORBIDDEN & node.keys()
    assert "type" in node


@pytest.mark.parametrize("path", [path for path in NODES if "[]" not in path.rpartition(".")[2]])
def test_every_field_is_described(path: str) -> None:
    description = NODES[path].get("description", "")
    assert description[:1].isupper()
    assert description.endswith(".")


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if node["type"] == "string"])
def test_every_text_is_bounded(path: str) -> None:
    node = NODES[path]
    assert "maxLength" in node or "enum" in node or node.get("format") == "date-time"


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if node["type"] == "array"])
def test_every_list_is_bounded_and_says_how_it_is_merged(path: str) -> None:
    assert {"maxItems", "x-kubernetes-list-type"} <= NODES[path].keys()


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if node["type"] == "integer"])
def test_every_number_is_bounded(path: str) -> None:
    bounds = {"minimum", "maximum"} if path.startswith("spec") else {"minimum"}
    assert bounds <= NODES[path].keys()


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if "additionalProperties" in node])
def test_every_map_is_bounded(path: str) -> None:
    assert "maxProperties" in NODES[path]


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if node.get("default") not in (None, {})])
def test_every_default_is_in_the_description(path: str) -> None:
    default = NODES[path]["default"]
    text = default if isinstance(default, str) else str(default).lower()
    assert NODES[path]["description"].endswith(f"Default: {text}.")


@pytest.mark.parametrize("path", [path for path in NODES if path.startswith("spec") and "Seconds" in path])
def test_every_duration_names_its_unit(path: str) -> None:
    assert "econds" in NODES[path]["description"]


def test_the_subresources_are_served() -> None:
    assert VERSION["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert ROOT["properties"]["spec"]["properties"]["replicas"]["default"] == 1


def test_the_columns_are_those_of_the_design() -> None:
    columns = [(column["name"], column.get("priority", 0)) for column in VERSION["additionalPrinterColumns"]]
    assert columns == [
        ("Flow", 0), ("Desired", 0), ("Ready", 0), ("Backlog", 0), ("InFlight", 0), ("Status", 0), ("Age", 0),
        ("Mode", 1), ("Oldest", 1), ("Revision", 1),
    ]  # fmt: skip


def test_the_names_are_those_of_the_design() -> None:
    names = CRD["spec"]["names"]
    assert (names["plural"], names["shortNames"], names["categories"]) == ("flowworkers", ["fw"], ["all"])
