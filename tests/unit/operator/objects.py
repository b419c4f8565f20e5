"""Objects as the API server gives them, for tests of what is made of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.operator.samples import make_spec, manifest

from flowworker_operator.database import Key, Reading
from flowworker_operator.domain.naming import own_labels, revision_labels
from flowworker_operator.domain.snapshot import Demand, Moment
from flowworker_operator.gather import Design, History, Observed, design
from flowworker_operator.render.rendering import Owner, render

Object = dict[str, Any]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STAMP = "2026-01-01T11:00:00Z"
KEY = Key(namespace="shop", name="report")
OWNER = Owner(namespace="shop", name="report", uid="1")
REVISION = render(OWNER, make_spec()).revision


def flowworker(uid: str = "1", version: str = "5", **changes: Any) -> Object:
    """A FlowWorker; `metadata` and `status` are merged in, the rest goes into the spec."""
    metadata, status = changes.pop("metadata", {}), changes.pop("status", {})
    return {
        "apiVersion": "flowworker.dev/v1alpha1",
        "kind": "FlowWorker",
        "metadata": {
            "namespace": "shop",
            "name": "report",
            "uid": uid,
            "resourceVersion": version,
            "generation": 1,
            "creationTimestamp": STAMP,
            **metadata,
        },
        "spec": manifest(**changes),
        "status": status,
    }


def live_deployment(version: str = "7", replicas: int = 2, owner: Owner = OWNER, **metadata: Any) -> Object:
    """The Deployment of the revision asked for, as it is after its creation."""
    made = render(owner, make_spec()).deployment(grace=75, replicas=replicas)
    made["metadata"] |= {"uid": f"deployment-{owner.uid}", "resourceVersion": version, "creationTimestamp": STAMP}
    made["metadata"] |= metadata
    return made


def live_pod(name: str = "a", uid: str = "pod-a", owner: str = "1", **changes: Any) -> Object:
    """A ready pod of it; `metadata` is merged in, the rest goes into the status."""
    metadata = changes.pop("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": uid,
            "resourceVersion": "8",
            "creationTimestamp": STAMP,
            "labels": revision_labels("report", REVISION),
            "annotations": {"flowworker.dev/owner-uid": owner},
            **metadata,
        },
        "spec": {"containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **changes},
    }


def live_budget(**metadata: Any) -> Object:
    """The PodDisruptionBudget."""
    made = render(OWNER, make_spec()).disruption_budget()
    made["metadata"] |= {"uid": "budget", "resourceVersion": "9", "labels": own_labels("report")} | metadata
    return made


def asked(**changes: Any) -> Design:
    found = design(flowworker(**changes))
    assert isinstance(found, Design)
    return found


def reading(**changes: Any) -> Reading:
    base = Reading(tick=90.0, demand=Demand(startable=3), longest_timeout=60, database="7/app")
    return replace(base, **changes)


def observed(**changes: Any) -> Observed:
    """A healthy moment."""
    base = Observed(
        at=Moment(wall=NOW + timedelta(seconds=5), tick=100.0),
        flowworker=flowworker(),
        design=asked(),
        deployments=[live_deployment()],
        pods=[live_pod()],
        budgets=[live_budget()],
        reading=reading(),
        fault=None,
        rivals=(),
        history=History(),
    )
    return replace(base, **changes)
