"""values.yaml, its schema and the README agree, and a wrong value is refused with its path."""

import importlib.metadata
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.chart.rendering import CHART, refusal
from tools.chart_readme import UndocumentedValueError, described

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DOCUMENTED = [path for path, *_ in described((CHART / "values.yaml").read_text())]

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt name": ({"imag": {}}, "imag"),
    "a misspelt name inside": ({"image": {"repo": "x"}}, "image repo"),
    "replicas as text": ({"replicas": "two"}, "replicas string integer"),
    "negative replicas": ({"replicas": -1}, "replicas 0"),
    "namespaces as text": ({"namespaces": "shop"}, "namespaces string array"),
    "a namespace that cannot be": ({"namespaces": ["Shop"]}, "namespaces 0 match"),
    "a namespace twice": ({"namespaces": ["shop", "shop"]}, "namespaces"),
    "an unknown level": ({"logging": {"level": "verbose"}}, "logging level warning"),
    "an unknown format": ({"logging": {"format": "text"}}, "logging format console"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "image pullPolicy IfNotPresent"),
    "an image with its digest": ({"image": {"repository": "a@sha256:0"}}, "image repository match"),
    "a short digest": ({"image": {"digest": "sha256:0"}}, "image digest match"),
    "a pull secret by its name": ({"imagePullSecrets": ["pull"]}, "imagePullSecrets 0 string object"),
    "a variable without a name": ({"extraEnv": [{"value": "x"}]}, "extraEnv 0 name"),
    "a variable that is a number": ({"extraEnv": [{"name": "A", "value": 1}]}, "extraEnv 0 value string"),
    "a port as text": ({"networkPolicy": {"databasePorts": ["5432"]}}, "networkPolicy databasePorts 0 integer"),
    "no port": ({"networkPolicy": {"databasePorts": []}}, "networkPolicy databasePorts 1"),
    "an address without its length": ({"networkPolicy": {"databaseCIDRs": ["10.0.0.1"]}}, "databaseCIDRs 0 match"),
    "a label that cannot be": ({"commonLabels": {"a": "b c"}}, "commonLabels a match"),
    "a budget of nothing": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget maxUnavailable"),
    "an interval without its unit": ({"monitoring": {"podMonitor": {"interval": "30"}}}, "podMonitor interval match"),
    "a runbook that is no link": ({"monitoring": {"rules": {"runbookURL": "docs"}}}, "rules runbookURL match"),
    "an install without a secret": ({"databaseInstall": {"enabled": True}}, "databaseInstall secret name 1"),
    "an object without a kind": ({"extraObjects": [{"apiVersion": "v1"}]}, "extraObjects 0 kind"),
    "a group that is gone": ({"monitoring": None}, "monitoring"),
    "an unknown resource field": ({"resources": {"request": {}}}, "resources request"),
    "a name that is too long": ({"fullnameOverride": "x" * 46}, "fullnameOverride 45"),
}
"""Values, and words that must be in what Helm says: the field, and what is allowed. Each Helm has its own sentences."""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_and_named(name: str) -> None:
    values, words = WRONG[name]
    said = refusal(values)
    assert [word for word in words.split() if not re.search(rf"\b{word}\b", said)] == []


def test_the_schema_knows_exactly_the_values_there_are() -> None:
    assert sorted(_paths(SCHEMA)) == sorted({*DOCUMENTED, "global"})


def test_the_schema_is_closed_wherever_it_names_properties() -> None:
    assert [path for path, node in _objects(SCHEMA) if node.get("additionalProperties") is not False] == []


def test_every_value_is_described_once() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) > 60


def test_a_value_without_a_description_is_noticed() -> None:
    with pytest.raises(UndocumentedValueError, match=r"group\.forgotten"):
        list(described("group:\n  # -- Known.\n  known: 1\n  # a remark\n  forgotten: 2\n"))


def test_a_description_may_have_several_lines() -> None:
    ((path, default, about),) = described("# a remark\n\n# -- One\n# two | three.\nvalue: [1]\n")
    assert (path, default, about) == ("value", [1], "One two \\| three.")


def test_the_version_is_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == importlib.metadata.version("flowworker")


def _paths(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Paths of the schema, as deep as values are described."""
    for name, child in node["properties"].items():
        path, resolved = f"{prefix}{name}", _resolved(child)
        if path in DOCUMENTED or "properties" not in resolved:
            yield path
        else:
            yield from _paths(resolved, f"{path}.")


def _objects(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield prefix or "the top", node
    for name, child in node["properties"].items():
        resolved = _resolved(child)
        if "properties" in resolved:
            yield from _objects(resolved, f"{prefix}{name}.")


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
