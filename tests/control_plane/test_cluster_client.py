"""The client against a real API server."""

import base64
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
from structlog.testing import capture_logs
from testkit.cluster.control_plane import ControlPlane
from testkit.support.waiting import until
from tests.unit.operator import samples

from flowworker_operator.cluster import client, transport
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.errors import AlreadyExists, Conflict, NotFound, Refused, Unavailable
from flowworker_operator.cluster.resources import DEPLOYMENTS, FLOWWORKERS, PODS, SECRETS, Object, Resource
from flowworker_operator.cluster.transport import Transport

REPLICA_SETS = Resource(api_version="apps/v1", kind="ReplicaSet", plural="replicasets")
NO_SUCH_KIND = Resource(api_version="nowhere.dev/v1", kind="Nothing", plural="nothings")


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncGenerator[Cluster]:
    """The client under test, as admin."""
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        yield cluster


def secret(namespace: str, name: str = "note", **data: str) -> Object:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def deployment(namespace: str, **container: Any) -> Object:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "web", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "localhost/pause:e2e", **container}]},
            },
        },
    }


def flowworker(namespace: str, **spec: Any) -> Object:
    metadata = {"namespace": namespace, "name": "report"}
    body = {"apiVersion": FLOWWORKERS.api_version, "kind": FLOWWORKERS.kind}
    return {**body, "metadata": metadata, "spec": samples.manifest(**spec)}


def with_metadata(manifest: Object, **metadata: Any) -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


def said(secret: Object | None, name: str) -> str:
    assert secret is not None
    return base64.b64decode(secret["data"][name]).decode()


async def test_what_is_missing_is_none(cluster: Cluster, namespace: str) -> None:
    assert await cluster.get(SECRETS, namespace, "note") is None
    assert await cluster.get(SECRETS, "no-such-namespace", "note") is None


async def test_an_unknown_kind_is_no_missing_object(cluster: Cluster, namespace: str) -> None:
    for asked in (
        cluster.get(NO_SUCH_KIND, namespace, "note"),
        cluster.delete(NO_SUCH_KIND, namespace, "note"),
        cluster.list(NO_SUCH_KIND, namespace),
    ):
        with pytest.raises(NotFound) as caught:
            await asked
        assert not caught.value.named


async def test_create_takes_a_new_object_only(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(SECRETS, secret(namespace, word="first"))
    with pytest.raises(AlreadyExists):
        await cluster.create(SECRETS, secret(namespace, word="second"))

    assert await cluster.get(SECRETS, namespace, "note") == made
    assert said(made, "word") == "first"


async def test_create_names_the_field_that_is_unknown(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Refused, match=r"unknown field .*imagePulPolicy"):
        await cluster.create(DEPLOYMENTS, deployment(namespace, imagePulPolicy="Always"))


async def test_create_names_the_namespace_that_is_missing(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="no-such-namespace"):
        await cluster.create(SECRETS, secret("no-such-namespace"))


async def test_apply_creates_and_owns_its_fields(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(SECRETS, secret(namespace, mine="1", old="1"))
    await cluster.apply(SECRETS, secret(namespace, mine="2"))
    found = await cluster.get(SECRETS, namespace, "note")

    assert said(found, "mine") == "2"
    assert found is not None
    assert found["metadata"]["managedFields"][0]["manager"] == "flowworker-operator"
    assert found["metadata"]["managedFields"][0]["operation"] == "Apply"


async def test_apply_leaves_what_others_wrote_and_takes_back_what_is_ours(
    cluster: Cluster, control_plane: ControlPlane, namespace: str
) -> None:
    await cluster.apply(DEPLOYMENTS, deployment(namespace))
    stranger = deployment(namespace, image="localhost/other:1", workingDir="/theirs")
    control_plane.api.apply(DEPLOYMENTS.path(namespace, "web"), with_metadata(stranger, annotations={"theirs": "kept"}))
    after = await cluster.apply(DEPLOYMENTS, deployment(namespace))
    container = after["spec"]["template"]["spec"]["containers"][0]

    assert container["image"] == "localhost/pause:e2e"
    assert container["workingDir"] == "/theirs"
    assert after["metadata"]["annotations"]["theirs"] == "kept"


async def test_apply_deletes_a_field_that_is_ours_and_left_out(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(DEPLOYMENTS, deployment(namespace, workingDir="/ours"))
    after = await cluster.apply(DEPLOYMENTS, deployment(namespace))

    assert "workingDir" not in after["spec"]["template"]["spec"]["containers"][0]


async def test_apply_of_another_version_conflicts(cluster: Cluster, namespace: str) -> None:
    seen = await cluster.apply(SECRETS, secret(namespace, word="1"))
    await cluster.apply(SECRETS, secret(namespace, word="2"))
    stale = with_metadata(secret(namespace, word="3"), resourceVersion=seen["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await cluster.apply(SECRETS, stale)

    assert said(await cluster.get(SECRETS, namespace, "note"), "word") == "2"


async def test_apply_with_the_uid_of_what_is_gone_makes_nothing_new(cluster: Cluster, namespace: str) -> None:
    seen = await cluster.create(SECRETS, secret(namespace))
    await cluster.delete(SECRETS, namespace, "note")
    with pytest.raises(Conflict):
        await cluster.apply(SECRETS, with_metadata(secret(namespace), uid=seen["metadata"]["uid"]))

    assert await cluster.get(SECRETS, namespace, "note") is None


@pytest.mark.parametrize(
    ("wrong", "explanation"),
    [({"imagePulPolicy": "Always"}, "imagePulPolicy: field not declared"), ({"workingDir": 7}, "workingDir: expected")],
)
async def test_a_manifest_with_a_wrong_field_is_refused_for_good(
    cluster: Cluster, namespace: str, wrong: dict[str, Any], explanation: str
) -> None:
    with pytest.raises(Refused, match=explanation):
        await cluster.apply(DEPLOYMENTS, deployment(namespace, **wrong))


async def test_an_invalid_value_is_refused_in_the_servers_words(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Refused) as caught:
        await cluster.apply(DEPLOYMENTS, deployment(namespace, name="W_", imagePullPolicy="Sometimes"))

    assert caught.value.status == 422
    assert "containers[0].name" in caught.value.message
    assert "containers[0].imagePullPolicy" in caught.value.message


async def test_the_status_is_applied_apart_from_the_spec(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(FLOWWORKERS, flowworker(namespace))
    head = {key: made[key] for key in ("apiVersion", "kind")} | {"metadata": flowworker(namespace)["metadata"]}
    after = await cluster.apply_status(FLOWWORKERS, {**head, "spec": {"image": "x"}, "status": {"replicas": 3}})

    assert after["status"]["replicas"] == 3
    assert after["spec"] == made["spec"]
    assert after["metadata"]["generation"] == made["metadata"]["generation"]


async def test_the_status_of_a_successor_is_protected_by_the_version(cluster: Cluster, namespace: str) -> None:
    seen = await cluster.create(FLOWWORKERS, flowworker(namespace))
    await cluster.delete(FLOWWORKERS, namespace, "report")
    await cluster.create(FLOWWORKERS, flowworker(namespace))
    stale = with_metadata(flowworker(namespace), resourceVersion=seen["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await cluster.apply_status(FLOWWORKERS, {**stale, "status": {"replicas": 3}})


async def test_the_status_of_nothing_is_not_found(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFound):
        await cluster.apply_status(FLOWWORKERS, {**flowworker(namespace), "status": {"replicas": 3}})


async def test_patch_merges_and_deletes(cluster: Cluster, namespace: str) -> None:
    await cluster.create(SECRETS, with_metadata(secret(namespace), annotations={"old": "1", "kept": "1"}))
    patch: dict[str, Any] = {"metadata": {"annotations": {"old": None, "new": "1"}}}
    after = await cluster.patch(SECRETS, namespace, "note", patch)

    assert after["metadata"]["annotations"] == {"kept": "1", "new": "1"}
    assert after["metadata"]["managedFields"][0]["manager"] == "flowworker-operator"


async def test_patch_keeps_to_its_preconditions(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(SECRETS, secret(namespace))
    version, uid = made["metadata"]["resourceVersion"], made["metadata"]["uid"]
    patch: dict[str, Any] = {"metadata": {"labels": {"a": "b"}}}
    await cluster.patch(SECRETS, namespace, "note", patch, resource_version=version, uid=uid)

    assert patch == {"metadata": {"labels": {"a": "b"}}}
    with pytest.raises(Conflict):
        await cluster.patch(SECRETS, namespace, "note", patch, resource_version=version)
    with pytest.raises(Conflict):
        await cluster.patch(SECRETS, namespace, "note", patch, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(NotFound):
        await cluster.patch(SECRETS, namespace, "other", patch)


async def test_delete_keeps_to_its_preconditions(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(SECRETS, secret(namespace))
    version, uid = made["metadata"]["resourceVersion"], made["metadata"]["uid"]
    with pytest.raises(Conflict):
        await cluster.delete(SECRETS, namespace, "note", resource_version="1")
    with pytest.raises(Conflict):
        await cluster.delete(SECRETS, namespace, "note", uid="00000000-0000-0000-0000-000000000000")
    await cluster.delete(SECRETS, namespace, "note", uid=uid, resource_version=version)

    assert await cluster.get(SECRETS, namespace, "note") is None


async def test_delete_of_what_is_gone_is_done(cluster: Cluster, namespace: str) -> None:
    await cluster.delete(SECRETS, namespace, "note")


async def test_delete_takes_what_is_owned_with_it(cluster: Cluster, namespace: str) -> None:
    async def owned() -> list[Object]:
        return await cluster.list(REPLICA_SETS, namespace)

    async def none_owned() -> bool:
        return not await owned()

    await cluster.create(DEPLOYMENTS, deployment(namespace))
    await until(owned, "the controller makes a ReplicaSet")
    await cluster.delete(DEPLOYMENTS, namespace, "web")

    assert await cluster.get(DEPLOYMENTS, namespace, "web") is None
    await until(none_owned, "the ReplicaSet is collected")


async def test_a_list_is_read_page_by_page(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAGE", 2)
    monkeypatch.setattr(client, "LARGEST_PAGE", 2)
    names = [f"note-{number}" for number in range(5)]
    for name in names:
        await cluster.create(SECRETS, secret(namespace, name))
    found = await cluster.list(SECRETS, namespace)

    assert [item["metadata"]["name"] for item in found] == names
    assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "Secret")}
    assert await cluster.list(PODS, namespace) == []


async def test_an_object_that_is_too_large_is_left_out_of_a_list_and_named(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", 1), ("b", 200_000), ("c", 1), ("d", 200_000)):
        await cluster.apply(SECRETS, secret(namespace, name, filler="x" * size))
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 64 * 1024)
    with capture_logs() as lines:
        found = await cluster.list(SECRETS, namespace)

    assert [item["metadata"]["name"] for item in found] == ["a", "c"]
    assert [line["name"] for line in lines] == ["b", "d"]


async def test_a_list_is_selected_by_the_server(cluster: Cluster, namespace: str) -> None:
    labels = {"team": namespace, "kind": "chosen"}
    await cluster.create(SECRETS, with_metadata(secret(namespace, "chosen"), labels=labels))
    await cluster.create(SECRETS, with_metadata(secret(namespace, "other"), labels={"team": namespace}))
    found = await cluster.list(SECRETS, None, labels=f"team={namespace},kind in (chosen)")

    assert [item["metadata"]["name"] for item in found] == ["chosen"]


async def test_what_is_forbidden_is_refused_in_the_servers_words(control_plane: ControlPlane, namespace: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    kubeconfig = control_plane.user(f"reader-{namespace}", rules, namespace)
    async with Cluster.connect(kubeconfig) as reader:
        assert await reader.list(PODS, namespace) == []
        with pytest.raises(Refused, match="cannot get resource") as caught:
            await reader.get(SECRETS, namespace, "note")

    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


async def test_a_policy_that_forbids_a_pod_is_an_error_that_names_it(cluster: Cluster, namespace: str) -> None:
    spec = {"containers": [{"name": "web", "image": "localhost/pause:e2e"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": "web"}, "spec": spec}
    with pytest.raises(Refused, match=r"violates PodSecurity .*runAsNonRoot"):
        await cluster.create(PODS, pod)


async def test_connections_are_kept(cluster: Cluster, control_plane: ControlPlane, namespace: str) -> None:
    for _ in range(20):
        await cluster.get(SECRETS, namespace, "note")
    port = control_plane.layout.ports.api
    remote = [line.raddr for line in psutil.Process().net_connections() if line.status == psutil.CONN_ESTABLISHED]

    assert len([address for address in remote if address and address.port == port]) == 1


async def test_in_a_pod_the_operator_is_its_service_account(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, host = trusted(control_plane)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(control_plane.layout.ports.api))
    (tmp_path / "ca.crt").write_bytes(authority)
    (tmp_path / "token").write_text(token_of(control_plane, namespace, "default"))
    transport = Transport(await configuration(None, service_account=tmp_path))
    try:
        with pytest.raises(Refused, match=f"system:serviceaccount:{namespace}:default"):
            await Cluster(transport).list(PODS, namespace)
    finally:
        await transport.close()


def trusted(control_plane: ControlPlane) -> tuple[bytes, str]:
    cluster = orjson.loads(control_plane.kubeconfig.read_bytes())["clusters"][0]["cluster"]
    return base64.b64decode(cluster["certificate-authority-data"]), control_plane.layout.address


def token_of(control_plane: ControlPlane, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    return control_plane.api.create(path, request)["status"]["token"]


async def test_a_server_that_stops_or_hangs_is_unavailable_until_it_is_back(own_control_plane: ControlPlane) -> None:
    transport = Transport(await configuration(own_control_plane.kubeconfig), aiohttp.ClientTimeout(total=2))
    cluster = Cluster(transport)
    try:
        assert await cluster.get(SECRETS, "default", "note") is None
        own_control_plane.freeze("kube-apiserver")
        with pytest.raises(Unavailable, match="did not answer in time"):
            await cluster.get(SECRETS, "default", "note")
        own_control_plane.thaw("kube-apiserver")
        assert await cluster.get(SECRETS, "default", "note") is None
        own_control_plane.stop("kube-apiserver")
        with pytest.raises(Unavailable):
            await cluster.get(SECRETS, "default", "note")
        own_control_plane.start("kube-apiserver")
        assert await cluster.get(SECRETS, "default", "note") is None
    finally:
        await transport.close()
