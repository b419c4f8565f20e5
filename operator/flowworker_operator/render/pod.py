"""The pod template of a revision, the hash that names it, and the pod that creates its flow.

The flow is created by a pod of its own, once for each revision and before its Deployment: an init container would start
Python and import the handler again in every pod, and would bring the owner's Secret into it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import (
    COMPILES_ANNOTATION,
    DEFAULT_CONTAINER_ANNOTATION,
    DELETION_COST_ANNOTATION,
    OWNER_ANNOTATION,
    SLUG_ANNOTATIONS,
    compiler_name,
    own_labels,
    revision_hash,
    revision_labels,
)
from flowworker_operator.render.container import COMPILER, SCRATCH, WORKER, compile_container, worker_container
from flowworker_operator.render.environment import revision_variable
from flowworker_operator.render.identity import Owner
from flowworker_operator.render.secrets import AUTHORITY, DATABASE, DIRECT, OWNER

_BESIDE_A_WORKER = frozenset({"initContainers", "readinessGates", "topologySpreadConstraints"})


def revision_of(name: str, spec: FlowWorkerSpec) -> str:
    """Hash of what the spec makes of a pod; the computed grace period is not part of it."""
    template = _template(name, spec)
    if spec.database.owner_secret_ref is None:
        return revision_hash(template)
    return revision_hash({**template, "compiler": _compiler_spec(spec)})


def compiler_pod(owner: Owner, spec: FlowWorkerSpec, *, revision: str) -> dict[str, Any]:
    """The pod that creates what is missing of the flow or queue, for a spec with an owner's Secret.

    It has the labels of the workers' pods, for the network policies that select them, except for the revision's, by
    which a ReplicaSet would count it.
    """
    metadata = _template(owner.name, spec)["metadata"]
    annotations = {
        **metadata["annotations"],
        DEFAULT_CONTAINER_ANNOTATION: COMPILER,
        OWNER_ANNOTATION: owner.uid,
        COMPILES_ANNOTATION: revision,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": compiler_name(owner.name, revision),
            "namespace": owner.namespace,
            "labels": metadata["labels"],
            "annotations": annotations,
            "ownerReferences": [owner.reference()],
        },
        "spec": _compiler_spec(spec),
    }


def pod_template(owner: Owner, spec: FlowWorkerSpec, *, revision: str, grace: int) -> dict[str, Any]:
    """The complete pod template of a revision.

    Args:
        owner: the FlowWorker.
        spec: of the FlowWorker.
        revision: its hash, from `revision_of`.
        grace: termination grace period in seconds.
    """
    template = _template(owner.name, spec)
    template["metadata"]["labels"] |= revision_labels(owner.name, revision)
    template["metadata"]["annotations"][OWNER_ANNOTATION] = owner.uid
    worker = next(one for one in template["spec"]["containers"] if one["name"] == WORKER)
    worker["env"] = [revision_variable(revision), *worker["env"]]
    return {**template, "spec": {**template["spec"], "terminationGracePeriodSeconds": grace}}


def volume_origins(spec: FlowWorkerSpec) -> dict[str, str]:
    """Which Secret or ConfigMap each volume is made from, in words, by the volume's name: kubelet names the volume."""
    fields = {
        DATABASE.name: ("spec.database.secretRef", spec.database.secret_ref),
        DIRECT.name: ("spec.database.directSecretRef", spec.database.direct_secret_ref),
        OWNER.name: ("spec.database.ownerSecretRef", spec.database.owner_secret_ref),
        AUTHORITY.name: ("spec.database.caRef", spec.database.ca_ref),
    }
    ours = {
        name: f"{field}: key {reference.key} of secret {reference.name}"
        for name, (field, reference) in fields.items()
        if reference is not None
    }
    return {**dict(_origins(spec.template.pod_spec().get("volumes") or ())), **ours}


def _origins(volumes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for volume in volumes:
        for kind, field in (("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName")):
            if isinstance(source := volume.get(kind), Mapping):
                named = cast("Mapping[str, Any]", source)
                yield str(volume.get("name")), f"{kind.lower()} {named.get(field)}{_keys(named)}"


def _keys(source: Mapping[str, Any]) -> str:
    items: Iterable[Mapping[str, Any]] = source.get("items") or ()
    keys = ", ".join(str(item.get("key")) for item in items)
    return f" with the keys {keys}" if keys else ""


def _template(name: str, spec: FlowWorkerSpec) -> dict[str, Any]:
    given = spec.template.pod_spec()
    metadata = spec.template.metadata
    annotations = {key: value for key, value in (metadata.annotations or {}).items() if key != DELETION_COST_ANNOTATION}
    return {
        "metadata": {
            "labels": {**(metadata.labels or {}), **own_labels(name)},
            "annotations": {
                DEFAULT_CONTAINER_ANNOTATION: WORKER,
                **annotations,
                SLUG_ANNOTATIONS[spec.kind]: spec.slug,
            },
        },
        "spec": _pod_spec(spec, given),
    }


def _pod_spec(spec: FlowWorkerSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = [dict(container) for container in given.get("containers", ())]
    nothing: dict[str, Any] = {}
    fragment = next((one for one in containers if one["name"] == WORKER), nothing)
    others = [one for one in containers if one["name"] != WORKER]
    return {
        "automountServiceAccountToken": False,
        **given,
        "containers": [worker_container(spec, fragment), *others],
        # Variables of services, such as one named flowworker, would look like settings.
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "securityContext": _security_context(given.get("securityContext")),
        "volumes": _volumes(spec, given.get("volumes")),
    }


def _compiler_spec(spec: FlowWorkerSpec) -> dict[str, Any]:
    """On the same nodes and with the same volumes as a worker, without what the user adds to be beside a worker."""
    given = spec.template.pod_spec()
    nothing: dict[str, Any] = {}
    fragment = next((one for one in given.get("containers", ()) if one["name"] == WORKER), nothing)
    pod = {key: value for key, value in _pod_spec(spec, given).items() if key not in _BESIDE_A_WORKER}
    return {
        **pod,
        "containers": [compile_container(spec, fragment)],
        "restartPolicy": "OnFailure",
        "volumes": _volumes(spec, given.get("volumes"), with_owner=True),
    }


def _security_context(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **(given or {})}


def _volumes(
    spec: FlowWorkerSpec, given: Iterable[Mapping[str, Any]] | None, *, with_owner: bool = False
) -> list[dict[str, Any]]:
    secrets = (
        (DATABASE, spec.database.secret_ref),
        (DIRECT, spec.database.direct_secret_ref),
        (OWNER, spec.database.owner_secret_ref if with_owner else None),
        (AUTHORITY, spec.database.ca_ref),
    )
    ours = [mount.volume(reference) for mount, reference in secrets if reference is not None]
    ours.append({"name": SCRATCH["name"], "emptyDir": {}})
    taken = {volume["name"] for volume in ours}
    return [*ours, *(dict(volume) for volume in given or () if volume.get("name") not in taken)]
