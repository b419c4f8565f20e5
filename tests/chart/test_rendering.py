"""What the chart makes of values."""

from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from testkit.support.manifests import breaches, complaints, pod_of
from tests.chart.combinations import COMBINATIONS, EVERYTHING
from tests.chart.rendering import CHART, NAMESPACE, Object, identity, notes, of_kind, only, render, run_helm

every_combination = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)


@every_combination
def test_helm_has_nothing_to_complain_about(values: dict[str, Any]) -> None:
    done = run_helm("lint", str(CHART), "--strict", "--quiet", values=values)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@every_combination
def test_every_object_is_valid(values: dict[str, Any]) -> None:
    assert {identity(item): found for item in render(values) if (found := complaints(item))} == {}


@pytest.mark.parametrize("version", ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"])
def test_every_object_is_valid_in_every_version_we_support(version: str) -> None:
    objects = render(EVERYTHING, kube_version=f"{version}.0")
    assert {identity(item): found for item in objects if (found := complaints(item, version))} == {}


@every_combination
def test_every_pod_keeps_to_pod_security_restricted(values: dict[str, Any]) -> None:
    pods = {identity(item): pod for item in render(values) if (pod := pod_of(item))}
    assert len(pods) >= 2
    assert {name: found for name, pod in pods.items() if (found := breaches(pod))} == {}


@every_combination
def test_only_the_operator_s_pods_get_a_token(values: dict[str, Any]) -> None:
    for item in render(values):
        pod = pod_of(item)
        if pod is not None:
            assert pod["automountServiceAccountToken"] is (item["kind"] == "Deployment"), identity(item)
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False


@every_combination
def test_names_are_unique_and_every_object_says_where_it_belongs(values: dict[str, Any]) -> None:
    objects = render(values)
    names = [identity(item) for item in objects]
    assert len(names) == len(set(names))
    own = [
        item for item in objects if item["kind"] != "CustomResourceDefinition" and "extra" not in str(identity(item))
    ]
    for item in own:
        labels = item["metadata"].get("labels", {"app.kubernetes.io/name": "flowworker"})
        assert labels["app.kubernetes.io/name"] in ("flowworker", "worker"), identity(item)


@every_combination
def test_every_selector_finds_the_operator_s_pods(values: dict[str, Any]) -> None:
    objects = render(values)
    labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    spec = {item["kind"]: item["spec"] for item in objects if "spec" in item}
    assert spec["Deployment"]["selector"]["matchLabels"].items() <= labels
    assert spec["Service"]["selector"].items() <= labels
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        if kind in spec:
            assert spec[kind][field]["matchLabels"].items() <= labels


@every_combination
def test_no_secret_is_made_or_written_out(values: dict[str, Any]) -> None:
    assert of_kind(render(values), "Secret") == []


def test_the_defaults_in_full(snapshot: SnapshotAssertion) -> None:
    objects = [item for item in render() if item["kind"] != "CustomResourceDefinition"]
    assert yaml.safe_dump_all(objects, sort_keys=False) == snapshot


def test_everything_in_full(snapshot: SnapshotAssertion) -> None:
    left_out = ("CustomResourceDefinition", "PrometheusRule")
    objects = [item for item in render(EVERYTHING) if item["kind"] not in left_out]
    assert yaml.safe_dump_all([_without_dashboard(item) for item in objects], sort_keys=False) == snapshot


def _without_dashboard(item: Object) -> Object:
    return item | {"data": sorted(item["data"])} if item["kind"] == "ConfigMap" and "data" in item else item


def test_the_crd_is_kept_when_the_chart_goes_and_can_be_left_out() -> None:
    crd = only(render(), "CustomResourceDefinition")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_a_release_of_another_name_shares_no_name_with_the_first() -> None:
    first, second = ({identity(item) for item in render(release=name)} for name in ("flowworker", "second"))
    assert {kind for kind, *_ in first & second} == {"CustomResourceDefinition"}


def test_the_longest_release_name_makes_names_that_are_short_enough() -> None:
    objects = render(EVERYTHING, release="r" * 53)
    assert max(len(item["metadata"]["name"]) for item in objects) <= 63


def test_a_release_name_that_is_cut_does_not_end_with_a_dash() -> None:
    objects = render(release="a" * 44 + "-" + "b" * 8)
    assert [name for item in objects if "--" in (name := item["metadata"]["name"])] == []


def test_an_old_kubernetes_is_refused() -> None:
    done = run_helm("template", "x", str(CHART), "--kube-version", "1.30.9")
    assert "chart requires kubeVersion: >=1.31.0-0" in done.stderr
    assert render(kube_version="1.31.0-gke.1")


def test_the_operator_is_given_what_it_looks_after_and_which_lease_is_its_own() -> None:
    (container,) = only(render(EVERYTHING), "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["FLOWWORKER_OPERATOR_NAMESPACES"] == "shop,billing"
    assert variables["FLOWWORKER_OPERATOR_LEASE_NAME"] == "flowworker-operator"
    assert variables["FLOWWORKER_OPERATOR_LOG_LEVEL"] == "debug"
    assert container["image"] == "registry.example:5000/flowworker-operator@sha256:" + "0" * 64


def test_an_upgrade_starts_the_new_operator_before_the_old_one_goes() -> None:
    strategy = only(render(), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_budget_comes_with_the_second_replica() -> None:
    assert of_kind(render({"replicas": 1}), "PodDisruptionBudget") == []
    assert only(render({"replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_install_job_runs_before_everything_and_knows_the_secret_by_a_file() -> None:
    job = only(render(EVERYTHING), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert container["args"][:3] == ["db", "install", "--database-file=/var/run/flowworker/owner-database/uri"]
    assert container["args"][3:] == [
        "--role=flowworker_worker", "--role=reports", "--client-role=shop", "--client-role=billing", "--admin-role=ada",
        "--run-events=all",
    ]  # fmt: skip


def test_notes_say_what_to_do_next_with_the_values_given() -> None:
    text = notes(EVERYTHING)
    assert "looks after the namespaces shop, billing" in text
    assert "kubectl --namespace flowworker-system rollout status deployment/flowworker-operator" in text
    assert "The database of Secret postgres-owner has been prepared" in text
    assert "on port 5432, 6543 only" in text
    assert "comes from no registry" not in text


def test_notes_of_the_defaults(snapshot: SnapshotAssertion) -> None:
    assert notes() == snapshot


def test_what_the_notes_say_to_apply_is_valid() -> None:
    text = notes({"namespaces": ["shop"]})
    written = text.partition("<<END\n")[2].partition("   END")[0]
    assert complaints(yaml.safe_load(written)) == []
    assert f"--namespace {NAMESPACE} test" in text
