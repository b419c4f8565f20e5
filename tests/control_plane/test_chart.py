"""The chart on a real API server: installed, upgraded, removed; what its account may do; what its pods are let do."""

import shutil
import subprocess
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from testkit.cluster.control_plane import DEFINITIONS, RBAC, RBAC_GROUP, ControlPlane, running
from testkit.support.manifests import UNKNOWN_HERE
from testkit.support.waiting import until
from tests.chart.rendering import CHART, NAMESPACE, RELEASE, of_kind, only, render, run_helm
from tests.control_plane.conftest import RESTRICTED
from tools.fetch_kubectl import kubectl

pytestmark = pytest.mark.xdist_group("chart")
"""One process runs all of these, so that they share one installation."""

ROOT = CHART.parents[1]
CRD = f"{DEFINITIONS}/flowworkers.flowworker.dev"
EXAMPLES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:flowworker-operator"


@pytest.fixture
def bare(programs: Mapping[str, Path]) -> Generator[ControlPlane]:
    """A control plane of the test's own, without our resource, with a strict namespace for the operator."""
    with running(programs) as control_plane:
        control_plane.create_namespace(NAMESPACE, RESTRICTED)
        yield control_plane


@pytest.fixture(scope="module")
def installed(programs: Mapping[str, Path]) -> Generator[ControlPlane]:
    """A control plane with the chart installed; tests must leave that installation alone."""
    with running(programs) as control_plane:
        control_plane.create_namespace(NAMESPACE, RESTRICTED)
        control_plane.create_namespace("shop", RESTRICTED)
        helm(control_plane, "install", RELEASE, str(CHART))
        yield control_plane


def helm(control_plane: ControlPlane, *arguments: str, values: dict[str, Any] | None = None) -> str:
    place = ("--kubeconfig", str(control_plane.kubeconfig), "--namespace", NAMESPACE)
    done = run_helm(*arguments, *place, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(control_plane: ControlPlane, objects: list[dict[str, Any]], *options: str) -> str:
    done = subprocess.run(
        [kubectl(), "--kubeconfig", control_plane.kubeconfig, "apply", "--server-side", *options, "--filename", "-"],
        input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def may(control_plane: ControlPlane, user: str, what: str, namespace: str = "shop") -> bool:
    """Whether a user may do something, written as `VERB GROUP|RESOURCE/SUBRESOURCE=NAME`; most of it is optional."""
    verb, _, target = what.partition(" ")
    group, _, rest = target.rpartition("|")
    resource, _, name = rest.partition("=")
    kind, _, subresource = resource.partition("/")
    attributes = {
        "verb": verb, "group": group, "resource": kind, "subresource": subresource, "name": name,
        "namespace": namespace,
    }  # fmt: skip
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    answer = control_plane.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return answer["status"]["allowed"]


ALLOWED = (
    "list flowworker.dev|flowworkers", "watch flowworker.dev|flowworkers", "patch flowworker.dev|flowworkers",
    "patch flowworker.dev|flowworkers/status", "update flowworker.dev|flowworkers/finalizers",
    "create apps|deployments", "patch apps|deployments", "delete apps|deployments", "watch apps|deployments",
    "list pods", "watch pods", "patch pods", "create pods", "delete pods",
    "create policy|poddisruptionbudgets", "get secrets=site-database",
    "create events", "patch events", "list events",
)  # fmt: skip
FORBIDDEN = (
    "list secrets", "watch secrets", "create secrets", "update secrets=site-database",
    "create pods/exec", "get pods/log", "delete flowworker.dev|flowworkers", "create flowworker.dev|flowworkers",
    "update apps|deployments", "list configmaps", "list namespaces", "list nodes", "create serviceaccounts/token",
    "create rbac.authorization.k8s.io|roles", "list apiextensions.k8s.io|customresourcedefinitions",
    "get coordination.k8s.io|leases=flowworker-operator",
)  # fmt: skip


@pytest.mark.parametrize("what", ALLOWED)
def test_the_operator_may_do_what_it_needs_everywhere(installed: ControlPlane, what: str) -> None:
    assert may(installed, ACCOUNT, what)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_operator_may_do_nothing_else(installed: ControlPlane, what: str) -> None:
    assert not may(installed, ACCOUNT, what)


def test_the_operator_may_hold_its_own_lease_and_no_other(installed: ControlPlane) -> None:
    leases = "coordination.k8s.io|leases"
    for verb in ("get", "patch"):
        assert may(installed, ACCOUNT, f"{verb} {leases}=flowworker-operator", NAMESPACE)
        assert not may(installed, ACCOUNT, f"{verb} {leases}=another", NAMESPACE)
    assert not may(installed, ACCOUNT, f"update {leases}=flowworker-operator", NAMESPACE)
    assert may(installed, ACCOUNT, f"create {leases}", NAMESPACE)


@pytest.mark.parametrize(
    ("role", "may_read", "may_write"), [("view", True, False), ("edit", True, True), ("admin", True, True)]
)
async def test_the_cluster_s_roles_include_the_resource(
    installed: ControlPlane, role: str, may_read: bool, may_write: bool
) -> None:
    user = f"somebody-with-{role}"
    binding = {
        "apiVersion": f"{RBAC_GROUP}/v1", "kind": "RoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC_GROUP, "kind": "User", "name": user}],
    }  # fmt: skip
    installed.api.apply(f"{RBAC}/namespaces/shop/rolebindings/{user}", binding)
    await until(lambda: may(installed, user, "list flowworker.dev|flowworkers") is may_read, f"{role} may read")
    for what in ("create flowworker.dev|flowworkers", "patch flowworker.dev|flowworkers/scale"):
        await until(lambda what=what: may(installed, user, what) is may_write, f"{role}: {what} is {may_write}")
    assert not may(installed, user, "patch flowworker.dev|flowworkers/status")


async def test_the_operator_s_pod_is_taken_by_a_strict_namespace(installed: ControlPlane) -> None:
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    selector = f"labelSelector=app.kubernetes.io/instance={RELEASE}"
    (pod,) = await until(lambda: installed.api.get(f"{pods}?{selector}")["items"], "the operator's pod is there")
    assert pod["spec"]["serviceAccountName"] == "flowworker-operator"


def test_the_pods_of_test_and_install_job_are_taken_as_well(installed: ControlPlane) -> None:
    objects = render({"databaseInstall": {"enabled": True, "secret": {"name": "owner"}, "roles": ["worker"]}})
    job = only(objects, "Job")
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "name": "install", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    said = apply(installed, [pod, *of_kind(objects, "Pod"), job], "--dry-run=server", "--validate=strict")
    assert "violate" not in said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_taken(installed: ControlPlane, path: Path) -> None:
    objects = [item for item in yaml.safe_load_all(path.read_text()) if item["apiVersion"] not in UNKNOWN_HERE]
    apply(installed, objects, "--dry-run=server", "--validate=strict", "--namespace", "shop")


def test_every_switch_at_once_is_taken(installed: ControlPlane) -> None:
    values = {
        "replicas": 2, "fullnameOverride": "other", "crds": {"install": False}, "rbac": {"aggregate": False},
        "networkPolicy": {"enabled": True, "databaseCIDRs": ["10.0.0.0/8"]},
        "monitoring": {"dashboard": {"enabled": True}}, "namespaces": ["shop"],
    }  # fmt: skip
    apply(installed, render(values, release="other"), "--dry-run=server", "--validate=strict")


def test_uninstalling_keeps_the_resource_and_removes_the_rest(bare: ControlPlane) -> None:
    helm(bare, "install", RELEASE, str(CHART))
    apply(bare, list(yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "flow.yaml").read_text())))
    helm(bare, "uninstall", RELEASE)
    kept = bare.api.get("/apis/flowworker.dev/v1alpha1/namespaces/default/flowworkers")["items"]
    assert [item["metadata"]["name"] for item in kept] == ["site-report"]
    assert bare.api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/flowworker-operator") is None
    assert bare.api.find(f"{RBAC}/clusterroles/flowworker-operator") is None
    assert not may(bare, ACCOUNT, "list flowworker.dev|flowworkers")
    helm(bare, "install", RELEASE, str(CHART))


def test_upgrading_the_chart_upgrades_the_resource(bare: ControlPlane, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(CHART, tmp_path / "flowworker"))
    crd = newer / "files" / "crd.yaml"
    crd.write_text(crd.read_text().replace("shortNames:\n    - fw", "shortNames:\n    - fw\n    - newer"))
    helm(bare, "install", RELEASE, str(CHART))
    helm(bare, "upgrade", RELEASE, str(newer))
    assert bare.api.get(CRD)["spec"]["names"]["shortNames"] == ["fw", "newer"]


def test_plain_manifests_are_taken_again_and_again(bare: ControlPlane) -> None:
    objects = list(yaml.safe_load_all((ROOT / "deploy" / "flowworker.yaml").read_text()))
    apply(bare, objects)
    apply(bare, objects)
    assert bare.api.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/flowworker-operator") is not None


def test_a_second_release_looks_after_a_namespace_and_has_no_right_anywhere_else(installed: ControlPlane) -> None:
    installed.create_namespace("billing", RESTRICTED)
    values = {"namespaces": ["billing"], "crds": {"install": False}}
    helm(installed, "install", "second", str(CHART), values=values)
    account = f"system:serviceaccount:{NAMESPACE}:second-flowworker-operator"
    assert may(installed, account, "list flowworker.dev|flowworkers", "billing")
    assert may(installed, account, "get secrets=a", "billing")
    for elsewhere in ("shop", NAMESPACE, ""):
        assert not may(installed, account, "list flowworker.dev|flowworkers", elsewhere)
        assert not may(installed, account, "get secrets=a", elsewhere)
