"""What a FlowWorker is rendered to: its Deployments, the pod that creates its flow, and its disruption budget.

A spec is rendered once. The hash that names the revision, the comparison with what there is and all that is written
come from that one rendering. What differs from one Deployment of a revision to the next is set on top of it: its grace
period, its replicas, the FlowWorker that it was left behind by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowworker_operator.api.model import API_VERSION, KIND
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import (
    ADOPTED_ANNOTATION,
    COMPILES_ANNOTATION,
    DEFAULT_CONTAINER_ANNOTATION,
    NAME_LABEL,
    OWNER_ANNOTATION,
    REVISION_LABEL,
    SLUG_ANNOTATIONS,
    base_name,
    compiler_name,
    deployment_name,
    own_labels,
    revision_hash,
    revision_labels,
)
from flowworker_operator.render.container import COMPILER
from flowworker_operator.render.pod import compiler_spec, pod_template, with_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The FlowWorker that objects are rendered for."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """The owner reference by which garbage collection finds what to delete with the FlowWorker."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What the spec of one generation is rendered to."""

    owner: Owner
    revision: str
    """Hash of the pod template; the computed grace period is not part of it."""
    slug: Mapping[str, str]
    """The annotation that names the flow or queue."""
    template: Mapping[str, Any]
    """Of the pods, as the hash is made of it."""
    compiler: Mapping[str, Any] | None
    """Spec of the pod that creates the flow or queue, for a spec with an owner's Secret."""

    def deployment(self, *, grace: int, replicas: int | None = None, adopted_from: str | None = None) -> dict[str, Any]:
        """The Deployment of this revision, for server-side apply.

        Args:
            grace: termination grace period of its pods in seconds.
            replicas: set only when it is created; later the number has its own way (`Scale`).
            adopted_from: uid of the FlowWorker that it was left behind by, which its pods keep.
        """
        adopted = {} if adopted_from is None else {ADOPTED_ANNOTATION: adopted_from}
        labels = revision_labels(self.owner.name, self.revision)
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self._metadata(
                deployment_name(self.owner.name, self.revision),
                labels,
                annotations={**self.slug, OWNER_ANNOTATION: self.owner.uid, **adopted},
            ),
            "spec": {
                **({} if replicas is None else {"replicas": replicas}),
                # The template never changes; if a user edits it, as little as possible happens until it is repaired.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": {NAME_LABEL: self.owner.name, REVISION_LABEL: self.revision}},
                "template": self._pods(labels, grace, adopted_from or self.owner.uid),
            },
        }

    def compiler_pod(self) -> dict[str, Any]:
        """The pod that creates what is missing of the flow or queue.

        It has the labels of the workers' pods, for the network policies that select them, except for the revision's, by
        which a ReplicaSet would count it.
        """
        metadata = self.template["metadata"]
        annotations = {
            **metadata["annotations"],
            DEFAULT_CONTAINER_ANNOTATION: COMPILER,
            OWNER_ANNOTATION: self.owner.uid,
            COMPILES_ANNOTATION: self.revision,
        }
        name = compiler_name(self.owner.name, self.revision)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self._metadata(name, metadata["labels"], annotations=annotations),
            "spec": self.compiler,
        }

    def disruption_budget(self) -> dict[str, Any]:
        """Over all revisions: at most a quarter of the workers may be evicted at once; the unready any time."""
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self._metadata(base_name(self.owner.name), own_labels(self.owner.name)),
            "spec": {
                "maxUnavailable": "25%",
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {NAME_LABEL: self.owner.name}},
            },
        }

    def _metadata(
        self, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": self.owner.namespace,
            "labels": labels,
            **({} if annotations is None else {"annotations": annotations}),
            "ownerReferences": [self.owner.reference()],
        }

    def _pods(self, labels: Mapping[str, str], grace: int, owner: str) -> dict[str, Any]:
        metadata, spec = self.template["metadata"], with_revision(self.template["spec"], self.revision)
        return {
            "metadata": {
                "labels": {**metadata["labels"], **labels},
                "annotations": {**metadata["annotations"], OWNER_ANNOTATION: owner},
            },
            "spec": {**spec, "terminationGracePeriodSeconds": grace},
        }


def render(owner: Owner, spec: FlowWorkerSpec) -> Rendering:
    """Render the spec of a FlowWorker."""
    template = pod_template(owner.name, spec)
    compiler = None if spec.database.owner_secret_ref is None else compiler_spec(spec)
    return Rendering(
        owner=owner,
        revision=revision_hash(template if compiler is None else {**template, "compiler": compiler}),
        slug={SLUG_ANNOTATIONS[spec.kind]: spec.slug},
        template=template,
        compiler=compiler,
    )
