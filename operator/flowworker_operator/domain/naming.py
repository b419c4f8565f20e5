"""Names, labels and hashes of what the operator creates.

A Deployment's name is short enough that its ReplicaSets and pods, whose names Kubernetes makes longer, stay within the
63 characters of a host name. A name that has to be cut gets a digest, so that two FlowWorkers never meet.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

MANAGER = "flowworker-operator"
"""Field manager of every write."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
NAME_LABEL = "flowworker.dev/name"
REVISION_LABEL = "flowworker.dev/revision"
PROVEN_ANNOTATION = "flowworker.dev/proven"
OWNER_ANNOTATION = "flowworker.dev/owner-uid"
"""Uid of the FlowWorker: distinguishes its Deployments and pods from those of a deleted FlowWorker of the same name."""
ADOPTED_ANNOTATION = "flowworker.dev/adopted-from"
"""Uid of the deleted FlowWorker that a Deployment was left behind by. Its pods keep that uid: to change it would be to
replace them."""
COMPILES_ANNOTATION = "flowworker.dev/compiles"
"""Revision that a pod creates the flow or queue for; such a pod has no revision label and is no worker."""
SLUG_ANNOTATIONS = {"flow": "flowworker.dev/flow", "queue": "flowworker.dev/queue"}
DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
DEFAULT_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
"""Which container `kubectl logs` and `kubectl exec` take by default."""
LOOKED_AT = frozenset(
    {
        MANAGED_BY_LABEL, NAME_LABEL, REVISION_LABEL, PROVEN_ANNOTATION, OWNER_ANNOTATION, ADOPTED_ANNOTATION,
        COMPILES_ANNOTATION, *SLUG_ANNOTATIONS.values(), DELETION_COST_ANNOTATION, DEFAULT_CONTAINER_ANNOTATION,
    }
)  # fmt: skip
"""Labels and annotations of an object that decisions look at."""
ORPHANING = "orphan"
"""Finalizer of Kubernetes by which a deletion leaves behind what belongs to the object."""
DELETION_COST = "-1000"
"""Far below the default of 0; recognisable as ours."""

LONGEST_LABEL = 63
REVISION_LENGTH = 8
COMPILER_SUFFIX = "-compile"
REPLICA_SET_SUFFIX = len("-0123456789")
POD_SUFFIX = len("-01234")
LONGEST_BASE = LONGEST_LABEL - POD_SUFFIX - REPLICA_SET_SUFFIX - REVISION_LENGTH - 1

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def revision_hash(content: Mapping[str, Any]) -> str:
    """Hash of a pod template; the order of keys does not matter."""
    return _digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def deployment_name(flowworker: str, revision: str) -> str:
    """Name of the Deployment of a revision."""
    return f"{base_name(flowworker)}-{revision}"


def compiler_name(flowworker: str, revision: str) -> str:
    """Name of the pod that creates the flow or queue for a revision."""
    return f"{deployment_name(flowworker, revision)}{COMPILER_SUFFIX}"


def base_name(flowworker: str) -> str:
    """The FlowWorker's name, or a short form of it that no other FlowWorker has."""
    if len(flowworker) <= LONGEST_BASE and _LABEL.fullmatch(flowworker):
        return flowworker
    head = flowworker.replace(".", "-")[: LONGEST_BASE - REVISION_LENGTH - 1].rstrip("-")
    return f"{head}-{_digest(flowworker.encode())}"


def own_labels(flowworker: str) -> dict[str, str]:
    """Labels of everything that belongs to a FlowWorker."""
    return {MANAGED_BY_LABEL: MANAGER, NAME_LABEL: flowworker}


def revision_labels(flowworker: str, revision: str) -> dict[str, str]:
    """Labels of everything that belongs to one revision."""
    return {**own_labels(flowworker), REVISION_LABEL: revision}


def selector(flowworker: str) -> str:
    """Label selector of all pods of a FlowWorker, as text."""
    return f"{NAME_LABEL}={flowworker}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:REVISION_LENGTH]
