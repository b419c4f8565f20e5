"""The PodDisruptionBudget over all revisions of a FlowWorker."""

from typing import Any

from flowworker_operator.domain.naming import NAME_LABEL, base_name, own_labels
from flowworker_operator.render.identity import Owner


def disruption_budget(owner: Owner) -> dict[str, Any]:
    """At most a quarter of the workers may be evicted at once; those that are not ready any time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": base_name(owner.name),
            "namespace": owner.namespace,
            "labels": own_labels(owner.name),
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "maxUnavailable": "25%",
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {NAME_LABEL: owner.name}},
        },
    }
