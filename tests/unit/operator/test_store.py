"""What the operator knows of the cluster, whatever order it comes in."""

from typing import Any

import orjson
import pytest
from tests.unit.operator.objects import KEY, flowworker, live_deployment, live_pod

from flowworker_operator.api.template import LARGEST_TEMPLATE
from flowworker_operator.cluster.resources import DEPLOYMENTS, FLOWWORKERS, PODS, Resource
from flowworker_operator.database import Key
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.gather import design
from flowworker_operator.store import LARGEST_DEPLOYMENT, REMEMBERED, Store, slim


@pytest.fixture
def store() -> Store:
    return Store()


def pod(version: str, uid: str = "p", name: str = "a", **metadata: Any) -> dict[str, Any]:
    return live_pod(name, uid, metadata={"resourceVersion": version, **metadata})


def uids(store: Store) -> list[str]:
    return [one["metadata"]["uid"] for one in store.belonging(PODS, KEY)]


def test_the_newest_version_wins_in_any_order(store: Store) -> None:
    assert store.put(PODS, pod("10"))
    assert not store.put(PODS, pod("9"))
    assert not store.put(PODS, pod("10"))
    assert store.put(PODS, pod("11"))
    assert [one["metadata"]["resourceVersion"] for one in store.belonging(PODS, KEY)] == ["11"]


def test_a_late_answer_does_not_bring_a_deleted_object_back(store: Store) -> None:
    store.put(PODS, pod("10"))
    assert store.remove(PODS, pod("12"))
    assert not store.put(PODS, pod("11"))
    assert uids(store) == []


def test_the_deletion_of_an_object_does_not_hit_the_one_that_took_its_name(store: Store) -> None:
    store.put(FLOWWORKERS, flowworker(uid="old", version="1"))
    store.put(FLOWWORKERS, flowworker(uid="new", version="5"))
    assert not store.remove(FLOWWORKERS, flowworker(uid="old", version="3"))
    found = store.get(FLOWWORKERS, KEY)
    assert found is not None
    assert found["metadata"]["uid"] == "new"


def test_a_relist_removes_what_is_gone_and_returns_whose_it_was(store: Store) -> None:
    store.put(PODS, pod("10"))
    store.put(PODS, pod("11", "q", "b"))
    assert store.replace(PODS, [pod("11", "q", "b")], store.mark()) == {KEY}
    assert uids(store) == ["q"]
    assert store.replace(PODS, [pod("11", "q", "b")], store.mark()) == set()


def test_a_relist_leaves_alone_what_came_while_it_was_under_way(store: Store) -> None:
    since = store.mark()
    store.put(PODS, pod("10"))
    store.replace(PODS, [], since)
    assert uids(store) == ["p"]


def test_a_relist_does_not_bring_back_what_was_deleted_while_it_was_under_way(store: Store) -> None:
    store.put(PODS, pod("10"))
    since = store.mark()
    store.remove(PODS, pod("12"))
    store.replace(PODS, [pod("10")], since)
    assert uids(store) == []


def test_a_relist_finds_what_no_watch_delivered(store: Store) -> None:
    assert store.replace(PODS, [pod("10")], store.mark()) == {KEY}
    assert store.replace(FLOWWORKERS, [flowworker()], store.mark()) == {KEY}


def test_objects_belong_to_the_flowworker_their_label_names(store: Store) -> None:
    store.put(PODS, pod("10"))
    store.put(PODS, live_pod("b", "q", metadata={"labels": {}}))
    store.put(PODS, live_pod("c", "r", metadata={"namespace": "elsewhere"}))
    assert uids(store) == ["p"]
    store.put(PODS, pod("11", labels={"flowworker.dev/name": "other"}))
    assert uids(store) == []
    assert len(store.belonging(PODS, Key(namespace="shop", name="other"))) == 1


def test_only_what_decisions_look_at_is_kept(store: Store) -> None:
    store.put(PODS, pod("10", managedFields=[{}]))
    store.put(DEPLOYMENTS, live_deployment(managedFields=[{}]))
    writers: list[dict[str, Any]] = [
        {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:image": {}}}},
        {"manager": "flowworker-operator", "fieldsV1": {"f:status": {"f:queue": {}}}},
    ]
    store.put(FLOWWORKERS, flowworker(metadata={"managedFields": writers}))
    (kept,) = store.belonging(PODS, KEY)
    assert "spec" not in kept
    assert "managedFields" not in kept["metadata"]
    assert "managedFields" not in store.belonging(DEPLOYMENTS, KEY)[0]["metadata"]
    found = store.get(FLOWWORKERS, KEY)
    assert found is not None
    assert found["metadata"]["managedFields"] == [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]


def test_tombstones_are_not_kept_for_ever(store: Store) -> None:
    store.remove(PODS, pod("1"))
    for _ in range(2):
        store.put(PODS, pod("20", "q", "b"))
        store.replace(PODS, [pod("20", "q", "b")], store.mark())
    assert store.put(PODS, pod("2"))


def test_a_template_nested_too_deep_to_be_measured_is_kept_out_like_one_that_is_too_large() -> None:
    store = Store()
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"in": deep}
    store.put(FLOWWORKERS, flowworker(template={"spec": deep}))
    kept = store.get(FLOWWORKERS, KEY)
    assert kept is not None
    fault = design(kept)
    assert isinstance(fault, Fault)
    assert fault.message == (
        f"spec.template: is nested too deep to be measured, and at most {LARGEST_TEMPLATE} bytes are allowed"
    )


def test_a_template_that_is_too_large_is_not_kept() -> None:
    store = Store()
    item = flowworker(template={"spec": {"filler": "x" * LARGEST_TEMPLATE}})
    item["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "x" * LARGEST_TEMPLATE}
    store.put(FLOWWORKERS, item)
    kept = store.get(FLOWWORKERS, KEY)
    assert kept is not None
    assert len(orjson.dumps(kept)) < 2000
    outcome = design(kept)
    assert isinstance(outcome, Fault)
    assert "spec.template" in outcome.message


@pytest.mark.parametrize("resource", [PODS, DEPLOYMENTS])
def test_what_others_write_beside_our_labels_is_not_kept(store: Store, resource: Resource) -> None:
    item = live_pod("a", "p") if resource == PODS else live_deployment()
    before = orjson.dumps(slim(resource, item))
    for texts in ("labels", "annotations"):
        item["metadata"].setdefault(texts, {}).update({f"of/others-{number}": "x" * 1000 for number in range(1000)})
    item["metadata"]["annotations"]["flowworker.dev/proven"] = "x" * LARGEST_TEMPLATE
    store.put(resource, item)
    (kept,) = store.belonging(resource, KEY)
    assert len(orjson.dumps(kept)) <= len(before) + 100


@pytest.mark.parametrize("resource", [PODS, DEPLOYMENTS])
def test_of_thousands_of_owners_and_finalizers_few_are_kept(store: Store, resource: Resource) -> None:
    item = live_pod("a", "p") if resource == PODS else live_deployment()
    (ours,) = live_deployment()["metadata"]["ownerReferences"]
    others = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "x" * 1000, "uid": f"other-{number}"}
        for number in range(1000)
    ]
    item["metadata"]["ownerReferences"] = [*others, ours]
    item["metadata"]["finalizers"] = [*(f"of.others/{number}" for number in range(10_000)), "orphan"]
    store.put(resource, item)
    (kept,) = store.belonging(resource, KEY)
    assert len(orjson.dumps(kept)) < 20_000
    assert ours in kept["metadata"]["ownerReferences"]
    assert "orphan" in kept["metadata"]["finalizers"]


def test_an_owner_that_is_named_many_times_does_not_hide_another(store: Store) -> None:
    item = live_deployment()
    (ours,) = item["metadata"]["ownerReferences"]
    own = {**ours, "controller": False}
    item["metadata"]["ownerReferences"] = [*[own] * 100, {**own, "uid": "other"}]
    store.put(DEPLOYMENTS, item)
    (kept,) = store.belonging(DEPLOYMENTS, KEY)
    assert {one["uid"] for one in kept["metadata"]["ownerReferences"]} == {own["uid"], "other"}


@pytest.mark.parametrize("nested", [False, True])
def test_a_deployment_that_is_larger_than_any_of_ours_is_known_without_its_template(store: Store, nested: bool) -> None:
    item, deep = live_deployment(), dict[str, Any]()
    for _ in range(300):
        deep = {"in": deep}
    item["spec"]["template"]["spec"]["filler"] = deep if nested else "x" * LARGEST_DEPLOYMENT
    item["spec"]["replicas"] = 3
    store.put(DEPLOYMENTS, item)
    (kept,) = store.belonging(DEPLOYMENTS, KEY)
    assert len(orjson.dumps(kept)) < 2000
    assert kept["spec"] == {"replicas": 3, "template": {"spec": {}}}


def test_a_large_template_that_is_allowed_is_kept() -> None:
    store = Store()
    store.put(FLOWWORKERS, flowworker(template={"spec": {"filler": "x" * (LARGEST_TEMPLATE - 100)}}))
    kept = store.get(FLOWWORKERS, KEY)
    assert kept is not None
    assert not isinstance(design(kept), Fault)


def test_what_one_namespace_deletes_does_not_bring_back_what_another_one_has_deleted(store: Store) -> None:
    store.put(PODS, pod("10"))
    store.remove(PODS, pod("12"))
    for number in range(REMEMBERED + 10):
        gone = pod("1", f"crowd-{number}", f"crowd-{number}", namespace="crowd")
        store.put(PODS, gone)
        store.remove(PODS, gone)
    assert not store.put(PODS, pod("11"))
