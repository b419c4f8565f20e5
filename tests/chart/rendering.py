"""Renders the chart as Helm does."""

import json
import shutil
import subprocess
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from testkit.support.manifests import Object
from tools.fetch_kubectl import helm

CHART = Path(__file__).parents[2] / "charts" / "flowworker"
RELEASE, NAMESPACE, KUBERNETES = "flowworker", "flowworker-system", "1.36.0"

Values = dict[str, Any]


def run_helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm with values as JSON, which is YAML too; whether it succeeds is the caller's business."""
    given = [] if values is None else ["--values", "-"]
    return subprocess.run(
        [str(helm()), *arguments, *given],
        input=None if values is None else json.dumps(values),
        stdin=subprocess.DEVNULL if values is None else None,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def render(values: Values | None = None, *, release: str = RELEASE, kube_version: str = KUBERNETES) -> list[Object]:
    """Every object the chart makes of some values, hooks and tests included, sorted by kind and name."""
    return deepcopy(_rendered(json.dumps(values), release, kube_version))


@cache
def _rendered(values: str, release: str, kube_version: str) -> list[Object]:
    arguments = ("template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", kube_version)
    done = run_helm(*arguments, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    objects = [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]
    return sorted(objects, key=identity)


def refusal(values: Values, *, kube_version: str = KUBERNETES) -> str:
    """What Helm says to values that it does not take."""
    arguments = ("template", RELEASE, str(CHART), "--kube-version", kube_version)
    done = run_helm(*arguments, values=values)
    assert done.returncode != 0, f"taken: {values}"
    return done.stderr


def notes(values: Values | None = None) -> str:
    """What a user reads after the installation; only an installation would print it, so it is put into an object."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / "flowworker"))
        text = (chart / "templates" / "NOTES.txt").read_text()
        wrapped = f'{{{{ define "notes" }}}}{text}{{{{ end }}}}text: {{{{ include "notes" . | toJson }}}}\n'
        (chart / "templates" / "notes.yaml").write_text(wrapped)
        arguments = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--show-only", "templates/notes.yaml")
        done = run_helm("template", RELEASE, str(chart), *arguments, values=values)
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)["text"]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """The objects of one kind."""
    return [item for item in objects if item["kind"] == kind]


def identity(item: Object) -> tuple[str, str, str]:
    """Kind, namespace and name; empty for what has no namespace."""
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of its kind."""
    (item,) = of_kind(objects, kind)
    return item
