"""The operator gets what it needs and nothing more."""

from typing import Any

import pytest
import yaml
from tests.chart.combinations import COMBINATIONS
from tests.chart.rendering import CHART, NAMESPACE, Object, of_kind, only, render

RULES: dict[str, list[dict[str, list[str]]]] = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())

ROLES = ("Role", "ClusterRole")

every_combination = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)


def verbs(resource: str) -> set[str]:
    rules = (*RULES["watched"], *RULES["lease"])
    return {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}


def roles(objects: list[Object]) -> list[Object]:
    return [role for kind in ROLES for role in of_kind(objects, kind)]


@every_combination
def test_no_rule_has_a_wildcard(values: dict[str, Any]) -> None:
    for role in roles(render(values)):
        for rule in role["rules"]:
            assert "*" not in {entry for field in rule.values() for entry in field}, role["metadata"]["name"]


@every_combination
def test_no_role_may_change_rights_or_act_as_another(values: dict[str, Any]) -> None:
    for role in roles(render(values)):
        for rule in role["rules"]:
            assert {"escalate", "bind", "impersonate"}.isdisjoint(rule["verbs"])
            assert {"roles", "rolebindings", "clusterroles", "serviceaccounts/token", "pods/exec"}.isdisjoint(
                rule["resources"]
            )


def test_secrets_can_be_read_by_name_and_never_listed() -> None:
    assert verbs("secrets") == {"get"}


def test_pods_are_created_and_deleted_but_never_entered() -> None:
    assert verbs("pods") == {"get", "list", "watch", "create", "patch", "delete"}
    assert verbs("pods/exec") == verbs("pods/attach") == verbs("pods/ephemeralcontainers") == set()


def test_events_are_never_watched() -> None:
    assert verbs("events") == {"create", "patch", "list"}


def test_the_resource_itself_is_never_created_or_deleted() -> None:
    assert verbs("flowworkers") == {"get", "list", "watch", "patch"}
    assert verbs("flowworkers/status") == {"patch"}


def test_the_lease_is_the_only_one_of_its_kind() -> None:
    lease = next(role for role in of_kind(render(), "Role") if role["metadata"]["name"].endswith("-lease"))
    assert lease["metadata"]["namespace"] == NAMESPACE
    for rule in lease["rules"]:
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["flowworker-operator"]


def test_the_whole_cluster_by_one_cluster_role() -> None:
    objects = render()
    role = next(item for item in of_kind(objects, "ClusterRole") if item["metadata"]["name"] == "flowworker-operator")
    assert role["rules"] == RULES["watched"]
    assert only(objects, "ClusterRoleBinding")["roleRef"]["name"] == "flowworker-operator"


def test_a_list_of_namespaces_by_a_role_in_each_and_nothing_beyond() -> None:
    objects = render({"namespaces": ["shop", "billing"], "rbac": {"aggregate": False}})
    assert of_kind(objects, "ClusterRole") == of_kind(objects, "ClusterRoleBinding") == []
    given = {role["metadata"]["namespace"]: role["rules"] for role in of_kind(objects, "Role")}
    assert given.keys() == {"shop", "billing", NAMESPACE}
    assert given["shop"] == given["billing"] == RULES["watched"]


@every_combination
def test_every_binding_leads_from_the_operator_s_account_to_a_role_that_exists(values: dict[str, Any]) -> None:
    objects = render(values)
    account = only(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    known = {(role["kind"], role["metadata"].get("namespace"), role["metadata"]["name"]) for role in roles(objects)}
    for binding in (*of_kind(objects, "RoleBinding"), *of_kind(objects, "ClusterRoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
        reference = binding["roleRef"]
        assert (reference["kind"], binding["metadata"].get("namespace"), reference["name"]) in known


def test_the_cluster_s_own_roles_can_be_given_the_resource() -> None:
    found = {role["metadata"]["name"]: role for role in of_kind(render(), "ClusterRole")}
    view, edit = found["flowworker-view"], found["flowworker-edit"]
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert of_kind(render({"rbac": {"create": True, "aggregate": False}, "namespaces": ["a"]}), "ClusterRole") == []


def test_rights_from_elsewhere_leave_no_role() -> None:
    objects = render({"rbac": {"create": False, "aggregate": False}})
    assert roles(objects) == []
