"""What the API server makes of a Deployment is no drift; what others change is."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from tests.unit.operator.samples import make_spec

from flowworker_operator.render.drift import difference, drifted, place
from flowworker_operator.render.rendering import Owner, render

OWNER = Owner(namespace="shop", name="report", uid="1")


def rendered(**pod: Any) -> dict[str, Any]:
    """The Deployment for a pod fragment."""
    return render(OWNER, make_spec(template={"spec": pod})).deployment(grace=75)


def with_worker(**fields: Any) -> dict[str, Any]:
    return rendered(containers=[{"name": "worker", **fields}])


def pod_of(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["template"]["spec"]


def worker_of(item: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in pod_of(item)["containers"] if one["name"] == "worker")


def volume_of(item: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in pod_of(item)["volumes"] if one["name"] == "info")


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return rendered(volumes=[{"name": "info", "projected": {"sources": list(sources)}}])


LABELS = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
TOKEN = {"serviceAccountToken": {"path": "token"}}
MOUNTS = [
    {"name": "config", "mountPath": "/etc/a.yaml", "subPath": "a.yaml"},
    {"name": "config", "mountPath": "/etc/b.yaml", "subPath": "b.yaml"},
]
PORTS = [
    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
]
HEADERS = [{"name": "X-Tag", "value": "one"}, {"name": "X-Tag", "value": "two"}]
ZONE = "topology.kubernetes.io/zone"
SPREADS = [
    {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"},
    {"maxSkew": 2, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
]


@pytest.mark.parametrize(
    "made",
    [
        with_worker(volumeMounts=MOUNTS),
        with_worker(ports=PORTS),
        with_worker(ports=[{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]),
        with_worker(readinessProbe={"httpGet": {"path": "/", "port": 80, "httpHeaders": HEADERS}}),
        rendered(topologySpreadConstraints=SPREADS),
    ],
    ids=["one volume mounted twice", "one port twice", "without names", "one header twice", "one topology twice"],
)
def test_entries_that_share_a_name_are_not_taken_for_each_other(made: dict[str, Any]) -> None:
    assert not drifted(made, deepcopy(made))


def test_a_mount_that_another_manager_adds_for_the_same_volume_is_not_taken_for_ours() -> None:
    made = with_worker(volumeMounts=MOUNTS[:1])
    live = deepcopy(made)
    worker_of(live)["volumeMounts"].append({"name": "config", "mountPath": "/injected"})
    assert not drifted(made, live)


@pytest.mark.parametrize("field", ["subPath", "name"])
def test_a_mount_that_is_changed_is_drift(field: str) -> None:
    made = with_worker(volumeMounts=MOUNTS)
    live = deepcopy(made)
    worker_of(live)["volumeMounts"][-1][field] = "other"
    assert drifted(made, live)


def _without_network(live: dict[str, Any]) -> None:
    del pod_of(live)["hostNetwork"]


def _without_read_only(live: dict[str, Any]) -> None:
    del worker_of(live)["volumeMounts"][-1]["readOnly"]


def _without_delay(live: dict[str, Any]) -> None:
    del worker_of(live)["readinessProbe"]["initialDelaySeconds"]


def _with_version(live: dict[str, Any]) -> None:
    volume_of(live)["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = "v1"


def _with_version_and_expiration(live: dict[str, Any]) -> None:
    token, labels = volume_of(live)["projected"]["sources"]
    token["serviceAccountToken"]["expirationSeconds"] = 3607
    labels["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = "v1"


def _with_policy(live: dict[str, Any]) -> None:
    pod_of(live)["dnsPolicy"] = "ClusterFirst"


@pytest.mark.parametrize(
    ("made", "store"),
    [
        (rendered(hostNetwork=False), _without_network),
        (with_worker(volumeMounts=[{**MOUNTS[0], "readOnly": False}]), _without_read_only),
        (with_worker(readinessProbe={"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 0}), _without_delay),
        (rendered(volumes=[{"name": "info", "downwardAPI": {"items": [LABELS]}}]), _with_version),
        (projected(TOKEN, {"downwardAPI": {"items": [LABELS]}}), _with_version_and_expiration),
        (rendered(dnsPolicy=None), _with_policy),
    ],
    ids=["False is left out", "False in an entry", "0 is left out", "items", "sources", "null asks for nothing"],
)
def test_what_the_api_server_stores_is_no_drift(made: dict[str, Any], store: Callable[[Any], None]) -> None:
    live = deepcopy(made)
    store(live)
    assert not drifted(made, live)


@pytest.mark.parametrize(
    ("made", "live"),
    [
        ({"hostNetwork": False}, {"hostNetwork": True}),
        ({"initialDelaySeconds": 0}, {"initialDelaySeconds": 5}),
        ({"tolerationSeconds": 0}, {}),
        ({"automountServiceAccountToken": False}, {}),
        ({"securityContext": {"allowPrivilegeEscalation": False}}, {"securityContext": {}}),
        ({"securityContext": {"runAsUser": 0}}, {"securityContext": {}}),
        ({"args": ["run", "app:flow"]}, {"args": ["run"]}),
        ({"args": ["run", "app:flow"]}, {"args": ["run", "app:flow", "--verbose"]}),
        ({"args": ["run", "app:flow"]}, {"args": ["app:flow", "run"]}),
        ({"args": ["run"]}, {}),
        ({"sources": [TOKEN]}, {"sources": [{"serviceAccountToken": {"path": "other"}}]}),
        ({"items": [LABELS]}, {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}}]}),
    ],
)
def test_another_value_is_drift_and_so_is_a_zero_that_means_something(
    made: dict[str, Any], live: dict[str, Any]
) -> None:
    assert drifted(made, live)


def test_a_map_identifies_no_entry_of_a_list() -> None:
    nothing: dict[str, int] = {}
    assert not drifted({"items": [{"name": nothing}]}, {"items": [{"name": {"added": 1}}]})
    assert drifted({"items": [{"name": {"a": 1}}]}, {"items": [{"name": {"a": 2}}]})


def test_the_place_of_a_difference_is_named() -> None:
    made = with_worker(image="mine")
    live = deepcopy(made)
    worker_of(live)["command"] = ["sh"]
    path = difference(made, live)
    assert path is not None
    assert place(path) == "spec.template.spec.containers[name=worker].command"
