"""What is generated from the chart is up to date, and plain manifests are the chart's."""

import subprocess
import sys

import yaml
from testkit.support.manifests import breaches, complaints, pod_of
from tests.chart.rendering import render
from tools import render_manifests

PLAIN = [
    item for item in yaml.safe_load_all((render_manifests.ROOT / "deploy" / "flowworker.yaml").read_text()) if item
]


def test_every_generated_file_is_up_to_date() -> None:
    assert render_manifests.outdated() == [], "run `make generate`"


def test_the_command_of_make_verify_succeeds_when_all_is_well() -> None:
    command = [sys.executable, "-m", "tools.render_manifests", "--check"]
    assert subprocess.run(command, cwd=render_manifests.ROOT, check=False).returncode == 0


def test_plain_manifests_can_be_applied_from_top_to_bottom() -> None:
    kinds = [item["kind"] for item in PLAIN]
    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]
    assert [found for item in PLAIN if (found := complaints(item))] == []


def test_plain_manifests_are_the_chart_s_objects_without_its_hooks() -> None:
    hooks = {"Pod", "Job"}
    rendered = {(item["kind"], item["metadata"]["name"]) for item in render() if item["kind"] not in hooks}
    assert {(item["kind"], item["metadata"]["name"]) for item in PLAIN[1:]} == rendered


def test_plain_manifests_are_not_helm_s() -> None:
    assert "helm" not in yaml.safe_dump_all(PLAIN).lower()


def test_the_namespace_of_the_plain_manifests_takes_their_pods() -> None:
    assert PLAIN[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [found for item in PLAIN if (pod := pod_of(item)) and (found := breaches(pod))] == []
