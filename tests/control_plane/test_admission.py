"""The resource at a real API server: what it takes, what it refuses and how it says so, and what kubectl shows."""

from collections.abc import Generator
from copy import deepcopy
from itertools import count
from typing import Any, cast
from uuid import uuid4

import pytest
import yaml
from testkit.cluster.api import MERGE, Object
from testkit.cluster.control_plane import ControlPlane
from testkit.cluster.errors import ApiError
from testkit.support.kubectl import kubectl_says, run_kubectl
from testkit.support.waiting import until
from tests.unit.operator.admission import ABSENT, INVALID, VALID, Changes, spec_with

DEFAULTS: Object = {
    "replicas": 1,
    "worker": {
        "maxConcurrency": 10,
        "batchSize": 10,
        "signalStrategy": "Polling",
        "minPollIntervalMilliseconds": 1000,
        "maxPollIntervalMilliseconds": 5000,
        "notifyFallbackIntervalMilliseconds": 30_000,
        "compile": "Auto",
    },
    "scaling": {
        "mode": "Auto",
        "minReplicas": 0,
        "maxReplicas": 10,
        "idleSecondsBeforeZero": 60,
        "scaleDownWindowSeconds": 120,
    },
    "rollout": {"progressDeadlineSeconds": 600},
    "template": {"metadata": {}, "spec": {}},
}
"""Every default that the API server fills in, except the key of a secret: that needs a secret."""
SECRETS = ("secretRef", "ownerSecretRef", "directSecretRef")

_numbers = count(1)


class Resources:
    """FlowWorkers of one namespace."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.path = f"/apis/flowworker.dev/v1alpha1/namespaces/{namespace}/flowworkers"

    def create(self, changes: Changes, name: str | None = None, *, dry_run: bool = False) -> Object:
        """Create one, or see whether it would be taken."""
        path = f"{self.path}?dryRun=All" if dry_run else self.path
        return self.control_plane.api.create(path, self.manifest(changes, name))

    def get(self, name: str) -> Object:
        return self.control_plane.api.get(f"{self.path}/{name}")

    def patch(self, name: str, patch: Object, subresource: str = "") -> Object:
        return self.control_plane.api.request("PATCH", f"{self.path}/{name}{subresource}", patch, MERGE)

    def manifest(self, changes: Changes, name: str | None = None) -> Object:
        metadata = {"name": name or f"worker-{next(_numbers)}", "namespace": self.namespace}
        return {
            "apiVersion": "flowworker.dev/v1alpha1",
            "kind": "FlowWorker",
            "metadata": metadata,
            "spec": spec_with(changes),
        }

    def kubectl(self, *arguments: str) -> str:
        return kubectl_says(self.control_plane.kubeconfig, "--namespace", self.namespace, *arguments)


@pytest.fixture(scope="module")
def resources(control_plane: ControlPlane) -> Generator[Resources]:
    """A namespace for all of these tests: they create many resources and none gets in another's way."""
    namespace = f"admission-{uuid4().hex[:10]}"
    control_plane.create_namespace(namespace, {})
    yield Resources(control_plane, namespace)
    control_plane.api.delete(f"/api/v1/namespaces/{namespace}")


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in VALID.items()])
def test_takes_what_is_valid_and_adds_only_the_documented_defaults(resources: Resources, changes: Changes) -> None:
    created = resources.create(changes)
    stored = resources.get(created["metadata"]["name"])
    assert stored["spec"] == with_defaults(spec_with(changes))
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in VALID.items()])
def test_takes_back_what_it_has_shown_as_no_change(resources: Resources, changes: Changes) -> None:
    created = resources.create(changes)
    name = created["metadata"]["name"]
    written = resources.control_plane.api.request("PUT", f"{resources.path}/{name}", created)
    assert written["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("changes", "field"), [pytest.param(changes, field, id=name) for name, (changes, field) in INVALID.items()]
)
def test_refuses_what_is_invalid_and_names_the_field(resources: Resources, changes: Changes, field: str) -> None:
    with pytest.raises(ApiError) as refused:
        resources.create(changes, dry_run=True)
    assert refused.value.reason == "Invalid"
    path = "spec" if field == "spec" else f"spec.{field}"
    blamed = [complaint for complaint in complaints(refused.value) if complaint.startswith((f"{path}:", f"{path}["))]
    assert blamed, refused.value.message


def test_says_that_one_of_flow_and_queue_is_needed(resources: Resources) -> None:
    with pytest.raises(ApiError, match="exactly one of flow and queue must be set"):
        resources.create({"flow": ABSENT}, dry_run=True)


def test_refuses_a_name_that_is_no_label(resources: Resources) -> None:
    assert resources.create({}, "n" * 63, dry_run=True)
    with pytest.raises(ApiError, match=r"metadata\.name must have at most 63 characters"):
        resources.create({}, "n" * 64, dry_run=True)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param({}, {"flow": "other"}, "flow cannot be changed; create another FlowWorker", id="another flow"),
        pytest.param({}, {"flow": None}, "exactly one of flow and queue must be set", id="a flow removed"),
        pytest.param({}, {"flow": None, "queue": "mail"}, "flow cannot be changed", id="a queue for a flow"),
        pytest.param(
            {"flow": ABSENT, "queue": "mail"}, {"queue": "other"}, "queue cannot be changed; create another FlowWorker",
            id="another queue",
        ),
        pytest.param(
            {"flow": ABSENT, "queue": "mail"}, {"queue": None, "flow": "report"}, "queue cannot be changed",
            id="a flow for a queue",
        ),
    ],
)  # fmt: skip
def test_what_is_worked_on_never_changes(resources: Resources, before: Changes, after: Object, words: str) -> None:
    created = resources.create(before)
    with pytest.raises(ApiError, match=words):
        resources.patch(created["metadata"]["name"], {"spec": after})


def test_what_is_worked_on_cannot_be_removed_and_added_again(resources: Resources) -> None:
    name = resources.create({})["metadata"]["name"]
    with pytest.raises(ApiError):
        resources.patch(name, {"spec": {"flow": None}})
    with pytest.raises(ApiError):
        resources.patch(name, {"spec": None})
    with pytest.raises(ApiError):
        resources.patch(name, {"spec": {"flow": "other"}})
    assert resources.get(name)["spec"]["flow"] == "report"


def test_everything_else_may_change(resources: Resources) -> None:
    name = resources.create({})["metadata"]["name"]
    changed = resources.patch(name, {"spec": {"image": "registry.example/report:2", "handler": "app.other:report"}})
    assert changed["spec"]["image"] == "registry.example/report:2"
    assert changed["metadata"]["generation"] == 2


def test_a_change_is_checked_as_a_new_one_is(resources: Resources) -> None:
    name = resources.create({})["metadata"]["name"]
    with pytest.raises(ApiError, match="minReplicas must not be greater than maxReplicas"):
        resources.patch(name, {"spec": {"scaling": {"minReplicas": 11}}})


def test_kubectl_refuses_a_field_that_does_not_exist(resources: Resources) -> None:
    """A typing error would else be dropped without a word."""
    manifest = resources.manifest({"scaling.maxReplica": 3})
    refused = run_kubectl(resources.control_plane.kubeconfig, "apply", "--filename=-", stdin=manifest)
    assert refused.returncode != 0
    assert 'unknown field "spec.scaling.maxReplica"' in refused.stderr


def test_kubectl_takes_any_field_of_a_pod(resources: Resources) -> None:
    manifest = resources.manifest(
        {"template.spec": {"containers": [{"name": "worker", "tty": True}], "hostUsers": True}}
    )
    taken = run_kubectl(resources.control_plane.kubeconfig, "apply", "--filename=-", stdin=manifest)
    assert taken.returncode == 0, taken.stderr


def test_what_is_null_in_a_container_counts_as_absent(resources: Resources) -> None:
    containers = [{"name": "worker", "env": None, "args": None}, {"name": "b", "env": [{"name": "A", "value": None}]}]
    created = resources.create({"template.spec": {"containers": containers}})
    kept = created["spec"]["template"]["spec"]["containers"]
    assert kept == [{"name": "worker"}, {"name": "b", "env": [{"name": "A"}]}]


def test_the_status_is_not_written_with_the_spec(resources: Resources) -> None:
    name = resources.create({})["metadata"]["name"]
    assert "status" not in resources.patch(name, {"status": {"replicas": 7}})
    changed = resources.patch(name, {"spec": {"image": "other:1"}, "status": {"replicas": 7}}, "/status")
    assert changed["spec"]["image"] == "registry.example/report:1"
    assert changed["status"] == {"replicas": 7, "readyReplicas": 0}
    assert changed["metadata"]["generation"] == 1


async def test_explain_reads_like_documentation(resources: Resources) -> None:
    def published() -> str | None:
        shown = run_kubectl(resources.control_plane.kubeconfig, "explain", "fw.spec.scaling")
        return shown.stdout if shown.returncode == 0 else None

    shown = " ".join((await until(published, "the resource's documentation is published")).split())
    scaling = schema_of(resources)["spec"]["properties"]["scaling"]["properties"]
    for name, field in scaling.items():
        assert f"{name} <{field['type']}>" in shown
        assert " ".join(field["description"].split()) in shown
        default = field.get("default")
        assert default is None or f"Default: {default}." in field["description"], name


def test_every_field_is_described_and_its_default_too(resources: Resources) -> None:
    schema = schema_of(resources)
    silent = [path for path, field in walk(schema) if not field.get("description")]
    assert silent == []
    undocumented = [
        path
        for path, field in walk(schema)
        if field.get("default", {}) not in ({}, None) and f"Default: {field['default']}" not in field["description"]
    ]
    assert undocumented == []


def test_kubectl_shows_what_a_user_wants_to_know(resources: Resources) -> None:
    name = resources.create({}, "shown")["metadata"]["name"]
    resources.patch(name, {"status": a_status()}, "/status")
    header, row = (line.split() for line in resources.kubectl("get", "fw", name).splitlines())
    assert header == ["NAME", "FLOW", "DESIRED", "READY", "BACKLOG", "INFLIGHT", "STATUS", "AGE"]
    assert row[:7] == ["shown", "report", "3", "2", "41", "8", "Working"]


def test_kubectl_shows_more_when_asked_to(resources: Resources) -> None:
    name = resources.create({}, "shown-wide")["metadata"]["name"]
    resources.patch(name, {"status": a_status()}, "/status")
    header, row = (line.split() for line in resources.kubectl("get", "fw", name, "--output=wide").splitlines())
    assert header[8:] == ["MODE", "OLDEST", "REVISION"]
    assert (row[8], row[10]) == ("Auto", "7c9f")


def test_kubectl_shows_a_queue_in_the_place_of_the_flow(resources: Resources) -> None:
    name = resources.create({"flow": ABSENT, "queue": "mail"}, "shown-queue")["metadata"]["name"]
    assert resources.kubectl("get", "fw", name, "--no-headers").split()[:2] == ["shown-queue", "mail"]


def test_kubectl_get_all_shows_them(resources: Resources) -> None:
    resources.create({}, "among-all")
    assert "flowworker.flowworker.dev/among-all" in resources.kubectl("get", "all", "--output=name")


def test_the_scale_subresource_reads_spec_and_status(resources: Resources) -> None:
    name = resources.create({"scaling.mode": "External", "replicas": 3})["metadata"]["name"]
    resources.patch(name, {"status": {"replicas": 2, "selector": "a=b"}}, "/status")
    scale = resources.control_plane.api.get(f"{resources.path}/{name}/scale")
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "a=b"}


def test_the_scale_subresource_writes_the_replicas_and_nothing_else(resources: Resources) -> None:
    before = resources.create({"scaling.mode": "External"})
    path = f"{resources.path}/{before['metadata']['name']}/scale"
    scale = resources.control_plane.api.get(path)
    resources.control_plane.api.request("PUT", path, {**scale, "spec": {"replicas": 5}})
    after = resources.get(before["metadata"]["name"])
    assert after["spec"] == {**before["spec"], "replicas": 5}


@pytest.mark.parametrize("replicas", [-1, 1001])
def test_the_scale_subresource_has_the_same_limits(resources: Resources, replicas: int) -> None:
    name = resources.create({"scaling.mode": "External"})["metadata"]["name"]
    path = f"{resources.path}/{name}/scale"
    scale = resources.control_plane.api.get(path)
    with pytest.raises(ApiError, match=r"spec\.replicas"):
        resources.control_plane.api.request("PUT", path, {**scale, "spec": {"replicas": replicas}})


def test_kubectl_scale_works(resources: Resources) -> None:
    name = resources.create({"scaling.mode": "External"})["metadata"]["name"]
    resources.kubectl("scale", f"fw/{name}", "--replicas=4")
    assert resources.get(name)["spec"]["replicas"] == 4


def complaints(error: ApiError) -> list[str]:
    """What the server blames, one complaint each, without the resource's name."""
    _, _, listing = error.message.partition(" is invalid: ")
    return listing.removeprefix("[").split(", ")


def with_defaults(spec: Object) -> Object:
    """The spec as the API server should store it."""
    filled = merged(DEFAULTS, spec)
    for name in SECRETS:
        if name in filled["database"]:
            filled["database"][name] = {"key": "uri", **filled["database"][name]}
    return filled


def merged(below: Object, above: Object) -> Object:
    """One document over another."""
    result = deepcopy(below)
    for name, value in above.items():
        beneath: Any = result.get(name)
        both_nested = isinstance(value, dict) and isinstance(beneath, dict)
        result[name] = merged(cast(Object, beneath), cast(Object, value)) if both_nested else value
    return result


def schema_of(resources: Resources) -> Object:
    """Schema that the server has, by field of the resource."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/flowworkers.flowworker.dev"
    definition = resources.control_plane.api.get(path)
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]


def walk(properties: Object, prefix: str = "") -> Generator[tuple[str, Object]]:
    """Every field of spec and status with its path."""
    for name, field in properties.items():
        if not prefix and name not in {"spec", "status"}:
            continue
        path = f"{prefix}{name}"
        yield path, field
        yield from walk(field.get("properties", {}), f"{path}.")
        yield from walk(field.get("items", {}).get("properties", {}), f"{path}[].")


def a_status() -> dict[str, Any]:
    return yaml.safe_load(
        """
        observedGeneration: 1
        replicas: 3
        readyReplicas: 2
        revision: {current: 7c9f, proven: true}
        queue:
          {startable: 41, inFlight: 8, observedAt: "2026-01-01T00:00:00Z", oldestStartableAt: "2026-01-01T00:00:00Z"}
        scaling: {desired: 3, reason: Backlog, message: 49 tasks need 3 workers, mode: Auto}
        conditions:
          - {type: Ready, status: "True", observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z",
             reason: Working, message: 2 of 3 workers are ready}
        """
    )
