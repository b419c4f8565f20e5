"""What is made of the objects of the API server."""

from typing import Any

import pytest
from tests.unit.operator.objects import (
    OWNER,
    REVISION,
    flowworker,
    live_budget,
    live_deployment,
    live_pod,
    observed,
    reading,
)
from tests.unit.operator.samples import make_spec

from flowworker.option_change import OptionChange
from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.status import FlowWorkerStatus
from flowworker_operator.domain.snapshot import (
    BudgetState,
    DatabaseState,
    DrainRequest,
    Fault,
    Report,
    RevisionState,
    WorkerState,
)
from flowworker_operator.gather import Design, design, gather, owned_by, replicas_set, status_of
from flowworker_operator.gather_pods import hangs, has_ended, last_end
from flowworker_operator.render.rendering import Owner, render

EARLIER = Owner(namespace="shop", name="report", uid="0")


def the_revision(**changes: Any) -> RevisionState:
    (revision,) = gather(observed(**changes)).revisions
    return revision


def test_a_healthy_moment() -> None:
    report = Report(state=WorkerState.RUNNING, kind="flow", slug="report", in_flight=4)
    snapshot = gather(observed(reading=reading(reports={"pod-a": report}, drains={"pod-a": DrainRequest(age=3)})))
    assert (snapshot.claim.uid, snapshot.generation, snapshot.deleting) == ("1", 1, False)
    assert snapshot.current is not None
    assert (snapshot.current.revision, snapshot.current.replicas, snapshot.current.grace) == (REVISION, 2, 75)
    assert (snapshot.current.proven, snapshot.current.drifted, snapshot.current.refusal) == (False, False, None)
    (pod,) = snapshot.current.pods
    assert (pod.ready, pod.ending, pod.marked, pod.report, pod.drain) == (
        True,
        False,
        False,
        report,
        DrainRequest(age=3),
    )
    assert snapshot.budget == BudgetState(exists=True)
    assert (snapshot.database.age, snapshot.database.longest_timeout) == (10.0, 60)


def test_options_are_those_of_the_revision_asked_for() -> None:
    change = OptionChange(step=None, option="timeout", code=30, database=60)
    said = {REVISION: [change], "other": []}
    assert gather(observed(reading=reading(option_changes=said))).database.option_changes == (change,)
    assert gather(observed(reading=reading(option_changes={"other": [change]}))).database.option_changes is None


def test_a_spec_that_the_model_refuses_is_a_fault_that_names_the_field() -> None:
    found = design(flowworker(scaling={"maxReplicas": "many"}))
    assert isinstance(found, Fault)
    assert found.reason is Reason.INVALID_SPEC
    assert "spec.scaling.maxReplicas" in found.message


def test_unknown_fields_of_a_newer_crd_are_no_fault() -> None:
    assert isinstance(design(flowworker(novelty=1)), Design)


def test_what_an_earlier_resource_of_the_same_name_has_left_is_not_ours() -> None:
    snapshot = gather(observed(deployments=[live_deployment(owner=EARLIER)], budgets=[live_budget(ownerReferences=[])]))
    assert (snapshot.revisions, snapshot.budget) == ((), BudgetState())


def test_a_pod_of_an_earlier_resource_is_not_ours_although_its_labels_are() -> None:
    assert the_revision(pods=[live_pod(owner="0")]).pods == ()


def test_a_deployment_whose_owner_reference_was_removed_is_ours_and_drifted() -> None:
    assert the_revision(deployments=[live_deployment(ownerReferences=[])]).drifted


def test_an_object_that_borrows_our_label_is_not_ours() -> None:
    foreign = live_deployment(ownerReferences=[], annotations={})
    assert gather(observed(deployments=[foreign])).revisions == ()


def test_a_deployment_with_another_name_than_its_revision_is_no_revision() -> None:
    assert gather(observed(deployments=[live_deployment(name="something-else")])).revisions == ()


def test_drift_is_a_field_of_ours_not_a_field_of_others() -> None:
    injected, changed = live_deployment(), live_deployment()
    injected["spec"]["template"]["metadata"]["annotations"]["sidecar.example/injected"] = "true"
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    assert (the_revision(deployments=[injected]).drifted, the_revision(deployments=[changed]).drifted) == (False, True)


def test_replicas_are_no_drift() -> None:
    assert not the_revision(deployments=[live_deployment(replicas=9)]).drifted


def test_the_proof_is_an_annotation() -> None:
    proven = live_deployment()
    proven["metadata"]["annotations"]["flowworker.dev/proven"] = "true"
    assert the_revision(deployments=[proven]).proven


def test_refused_pods_reach_the_revision() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}
    refused = live_deployment() | {"status": {"conditions": [failure]}}
    assert the_revision(deployments=[refused]).refusal == "exceeded quota: small"


@pytest.mark.parametrize(
    "changes",
    [{"metadata": {"deletionTimestamp": "2026-01-01T11:59:00Z"}}, {"phase": "Failed"}],
    ids=["deleted", "over"],
)
def test_a_pod_that_ends_is_no_capacity(changes: dict[str, Any]) -> None:
    (pod,) = the_revision(pods=[live_pod(**changes)]).pods
    assert (pod.ending, pod.ready) == (True, False)


def test_marks_are_those_of_this_operator() -> None:
    cost = "controller.kubernetes.io/pod-deletion-cost"
    ours = live_pod(uid="x", metadata={"annotations": {cost: "-1000", "flowworker.dev/owner-uid": "1"}})
    theirs = live_pod("b", "y", metadata={"annotations": {cost: "5", "flowworker.dev/owner-uid": "1"}})
    assert {pod.uid: pod.marked for pod in the_revision(pods=[ours, theirs]).pods} == {"x": True, "y": False}


def test_what_kubelet_reports_of_containers_reaches_the_pod() -> None:
    waiting = {"name": "init", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    ended = {"exitCode": 66, "reason": "Error", "message": "no module app"}
    crashing = {
        "name": "worker",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    (pod,) = the_revision(pods=[live_pod(initContainerStatuses=[waiting], containerStatuses=[crashing])]).pods
    first, second = pod.containers
    assert (first.name, first.waiting_reason, first.waiting_message) == ("init", "ErrImagePull", "not found")
    assert (second.restarts, second.exit_code, second.ended_message) == (3, 66, "no module app")
    assert last_end(live_pod(containerStatuses=[crashing])) == "Error, exit code 66"


RUNNING = {"name": "worker", "state": {"running": {"startedAt": "2026-01-01T11:00:00Z"}}}
TERMINATED = {"name": "worker", "state": {"terminated": {"exitCode": 0}}}


@pytest.mark.parametrize(
    ("status", "proven"),
    [
        ({"phase": "Running", "containerStatuses": [RUNNING]}, False),
        ({"phase": "Failed", "containerStatuses": [RUNNING]}, False),
        ({"phase": "Running"}, False),
        ({"phase": "Pending"}, False),
        ({"phase": "Running", "containerStatuses": [TERMINATED]}, True),
        ({"phase": "Failed", "containerStatuses": [TERMINATED]}, True),
        ({"phase": "Failed"}, True),
        ({"phase": "Succeeded"}, True),
    ],
)
def test_only_a_container_that_has_ended_proves_that_the_worker_of_a_deleted_pod_has(
    status: dict[str, Any], proven: bool
) -> None:
    assert has_ended(live_pod(metadata={"deletionTimestamp": "2026-01-01T11:00:00Z"}, **status)) is proven


SCHEDULED = {"type": "PodScheduled", "status": "True"}
CREATING = {"name": "worker", "state": {"waiting": {"reason": "ContainerCreating"}}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"conditions": [SCHEDULED]}, True),
        ({"conditions": [SCHEDULED], "containerStatuses": [CREATING]}, True),
        ({"conditions": [SCHEDULED, {"type": "PodReadyToStartContainers", "status": "False"}]}, True),
        ({"conditions": []}, False),
        ({"conditions": [SCHEDULED, {"type": "PodReadyToStartContainers", "status": "True"}]}, False),
        ({"conditions": [SCHEDULED], "containerStatuses": [RUNNING]}, False),
        ({"conditions": [SCHEDULED], "phase": "Failed"}, False),
    ],
)
def test_a_pod_hangs_while_it_has_a_node_and_no_containers(status: dict[str, Any], expected: bool) -> None:
    assert hangs(live_pod(**{"phase": "Pending", **status})) is expected


def test_a_pod_without_room_is_unschedulable() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    (pod,) = the_revision(pods=[live_pod(conditions=[condition])]).pods
    assert pod.unschedulable == "0/1 nodes"


@pytest.mark.parametrize(
    ("ready", "containers", "expected"),
    [
        ({"status": "False"}, "True", True),
        ({"status": "False", "reason": "ContainersNotReady"}, "False", False),
        ({"status": "False", "reason": "ReadinessGatesNotReady"}, "True", False),
        ({"status": "True"}, "True", False),
    ],
)
def test_a_pod_is_cut_off_when_kubernetes_and_not_kubelet_takes_its_readiness_away(
    ready: dict[str, str], containers: str, expected: bool
) -> None:
    conditions = [{"type": "Ready", **ready}, {"type": "ContainersReady", "status": containers}]
    (pod,) = the_revision(pods=[live_pod(conditions=conditions)]).pods
    assert pod.cut_off is expected


def entry(manager: str, operation: str, *fields: str, subresource: str = "") -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "subresource": subresource,
        "fieldsV1": {"f:spec": {f"f:{field}": {} for field in fields}},
    }


@pytest.mark.parametrize(
    ("replicas", "written", "expected"),
    [
        (1, entry("kubectl-create", "Update", "handler", "replicas"), False),
        (3, entry("kubectl-create", "Update", "handler", "replicas"), True),
        (1, entry("kubectl", "Apply", "handler", "replicas"), True),
        (1, entry("kubectl", "Apply", "handler"), False),
        (1, entry("kube-controller-manager", "Update", "replicas", subresource="scale"), True),
        (1, entry("kubectl-edit", "Update", "replicas"), True),
        (3, entry("flowworker-operator", "Update", "replicas"), False),
    ],
    ids=["default of a creation", "creation with a number", "applied", "not applied", "scaled", "edited", "ours"],
)
def test_who_has_written_the_replicas(replicas: int, written: dict[str, Any], expected: bool) -> None:
    assert replicas_set(flowworker(replicas=replicas, metadata={"managedFields": [written]})) is expected


def test_an_unsupported_schema_is_no_demand() -> None:
    fault = Fault(reason=Reason.SCHEMA_MISSING, message="run db install")
    database = gather(observed(reading=reading(demand=None, schema_fault=fault))).database
    assert database == DatabaseState(schema_fault=fault)


def test_the_fault_of_the_last_attempt_stands_beside_the_last_good_reading() -> None:
    fault = Fault(reason=Reason.DATABASE_UNREACHABLE, message="refused")
    database = gather(observed(fault=fault)).database
    assert (database.fault, database.age) == (fault, 10.0)


def condition(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T11:00:00Z",
        "reason": "Fine",
        "message": "",
    }


def test_conditions_of_others_and_their_order_are_no_difference() -> None:
    kinds = ["SchemaReady", "Foreign", "Ready"]
    status = status_of(flowworker(status={"conditions": [condition(kind) for kind in kinds]}))
    assert [one.type for one in status.conditions] == ["Ready", "SchemaReady"]


def test_a_status_that_the_operator_did_not_write_counts_as_none() -> None:
    assert status_of(flowworker(status={"workers": "many"})) == FlowWorkerStatus()


def test_a_resource_on_its_way_out_says_so() -> None:
    assert gather(observed(flowworker=flowworker(metadata={"deletionTimestamp": "2026-01-01T11:00:00Z"}))).deleting


def test_the_owner_is_known_by_uid() -> None:
    assert OWNER.uid == gather(observed()).claim.uid


def left_behind(**metadata: Any) -> dict[str, Any]:
    """The Deployment of an earlier FlowWorker of the name, without its owner."""
    made = live_deployment(owner=EARLIER)
    made["metadata"] |= {"ownerReferences": [], **metadata}
    return made


def test_a_deployment_of_a_deleted_flow_worker_is_an_orphan() -> None:
    snapshot = gather(observed(deployments=[left_behind()]))
    assert [(one.name, one.resource_version, one.owner) for one in snapshot.orphans] == [(left_behind_name(), "7", "0")]
    assert snapshot.revisions == ()


def left_behind_name() -> str:
    return left_behind()["metadata"]["name"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [EARLIER.reference()]},
        {"labels": {"flowworker.dev/name": "report", "app.kubernetes.io/managed-by": "helm"}},
        {"labels": {"flowworker.dev/name": "other", "app.kubernetes.io/managed-by": "flowworker-operator"}},
        {"name": "somebody-elses"},
        {"annotations": {}},
        {"deletionTimestamp": "2026-01-01T11:00:00Z"},
    ],
)
def test_a_deployment_that_is_owned_named_or_labelled_otherwise_is_no_orphan(metadata: dict[str, Any]) -> None:
    assert gather(observed(deployments=[left_behind(**metadata)])).orphans == ()


def test_an_adopted_deployment_keeps_its_pods_and_is_no_drift() -> None:
    adopted = render(OWNER, make_spec()).deployment(grace=75, replicas=1, adopted_from="0")
    adopted["metadata"] |= {"uid": "d", "resourceVersion": "7", "creationTimestamp": "2026-01-01T11:00:00Z"}
    found = the_revision(deployments=[adopted], pods=[live_pod("a", "x", owner="0"), live_pod("b", "y", owner="1")])
    assert ([pod.name for pod in found.pods], found.drifted) == (["a"], False)


OTHERS = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs"}


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({"ownerReferences": []}, True),
        ({"ownerReferences": [], "labels": {}}, True),
        ({"ownerReferences": [{**OTHERS, "uid": OWNER.uid}]}, True),
        ({"ownerReferences": [OTHERS]}, False),
        ({"ownerReferences": [{**OTHERS, "controller": True}]}, False),
        ({"ownerReferences": [], "labels": {"app.kubernetes.io/managed-by": "Helm"}}, False),
    ],
    ids=["no owner", "no labels", "not controlling", "another owner", "another controller", "another manager"],
)
def test_an_object_that_another_has_is_not_ours_whatever_its_annotation_says(
    metadata: dict[str, Any], ours: bool
) -> None:
    assert owned_by(live_deployment(**metadata), OWNER.uid) is ours
