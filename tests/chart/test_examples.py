"""The examples for Kubernetes are valid, and so is what the operator makes of them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from testkit.support.manifests import breaches, complaints

from flowworker import Flow
from flowworker_operator.api.model import KIND
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.render.rendering import Owner, render

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
EXAMPLES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}

every_example = pytest.mark.parametrize("path", EXAMPLES.values(), ids=EXAMPLES)


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def flowworker(path: Path) -> dict[str, Any]:
    (found,) = (item for item in objects(path) if item["kind"] == KIND)
    return found


@every_example
def test_every_object_is_valid(path: Path) -> None:
    assert [found for item in objects(path) if (found := complaints(item))] == []


@every_example
def test_the_pods_that_come_of_it_are_valid_and_restricted(path: Path) -> None:
    item = flowworker(path)
    owner = Owner(namespace="shop", name=item["metadata"]["name"], uid="8d2f1c9e")
    made = render(owner, FlowWorkerSpec.model_validate(item["spec"])).deployment(grace=75, replicas=1)
    assert complaints(made) == []
    assert breaches(made["spec"]["template"]["spec"]) == []


@every_example
def test_it_says_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


@every_example
def test_its_workers_ask_for_resources_and_have_a_bound(path: Path) -> None:
    (worker,) = flowworker(path)["spec"]["template"]["spec"]["containers"]
    assert worker["resources"].keys() == {"requests", "limits"}


def test_there_is_one_for_every_need() -> None:
    assert EXAMPLES.keys() == {"flow", "queue", "no-image", "cloudnative-pg", "secrets", "external", "notify"}


def test_the_flow_in_the_config_map_is_the_one_that_runs(tmp_path: Path) -> None:
    config, item = objects(EXAMPLES["no-image"])
    module, _, name = item["spec"]["handler"].partition(":")
    (tmp_path / f"{module}.py").write_text(config["data"][f"{module}.py"])
    found = importlib.util.spec_from_file_location(module, tmp_path / f"{module}.py")
    assert found is not None
    assert found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    flow = getattr(loaded, name)
    assert isinstance(flow, Flow)
    assert flow.slug == item["spec"]["flow"]


def test_the_config_map_is_the_one_that_is_mounted_where_python_looks() -> None:
    config, item = objects(EXAMPLES["no-image"])
    pod = item["spec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert mount["name"] == volume["name"]
    dockerfile = (FOLDER.parents[1] / "worker" / "Dockerfile").read_text()
    assert f"PYTHONPATH={mount['mountPath']} " in dockerfile


def test_the_autoscaler_points_at_the_flowworker_within_its_bounds() -> None:
    item, autoscaler = objects(EXAMPLES["external"])
    target, scaling = autoscaler["spec"]["scaleTargetRef"], item["spec"]["scaling"]
    assert target == {"apiVersion": item["apiVersion"], "kind": KIND, "name": item["metadata"]["name"]}
    assert autoscaler["spec"]["maxReplicas"] == scaling["maxReplicas"]
    assert scaling["mode"] == "External"


def test_the_direct_connection_is_used_for_notifications() -> None:
    spec = FlowWorkerSpec.model_validate(flowworker(EXAMPLES["notify"])["spec"])
    assert spec.database.direct_secret_ref is not None
    assert spec.database.owner_secret_ref is not None
