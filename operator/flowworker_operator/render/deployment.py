"""The Deployment of one revision: applied once, then only scaled."""

from dataclasses import replace
from typing import Any

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import (
    ADOPTED_ANNOTATION,
    NAME_LABEL,
    OWNER_ANNOTATION,
    REVISION_LABEL,
    SLUG_ANNOTATIONS,
    deployment_name,
    revision_labels,
)
from flowworker_operator.render.identity import Owner
from flowworker_operator.render.pod import pod_template


def deployment(
    owner: Owner,
    spec: FlowWorkerSpec,
    *,
    revision: str,
    grace: int,
    replicas: int | None = None,
    adopted_from: str | None = None,
) -> dict[str, Any]:
    """The Deployment of a revision, for server-side apply.

    Args:
        owner: the FlowWorker.
        spec: of the FlowWorker.
        revision: hash from `revision_of`.
        grace: termination grace period of its pods in seconds.
        replicas: set only when it is created; later the number has its own way (`Scale`).
        adopted_from: uid of the FlowWorker that it was left behind by, which its pods keep.
    """
    pods_owner = owner if adopted_from is None else replace(owner, uid=adopted_from)
    adopted = {} if adopted_from is None else {ADOPTED_ANNOTATION: adopted_from}
    own = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(owner.name, revision),
            "namespace": owner.namespace,
            "labels": revision_labels(owner.name, revision),
            "annotations": {SLUG_ANNOTATIONS[spec.kind]: spec.slug, OWNER_ANNOTATION: owner.uid, **adopted},
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            **own,
            # The template never changes; if a user edits it, as little as possible happens until it is repaired.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {NAME_LABEL: owner.name, REVISION_LABEL: revision}},
            "template": pod_template(pods_owner, spec, revision=revision, grace=grace),
        },
    }
