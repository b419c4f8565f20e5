"""The pods of a FlowWorker: those of its workers, and the one that creates its flow.

The flow is created by a pod of its own, once for each revision and before its Deployment: an init container would start
Python and import the handler again in every pod, and would bring the owner's Secret into it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import (
    DEFAULT_CONTAINER_ANNOTATION,
    DELETION_COST_ANNOTATION,
    SLUG_ANNOTATIONS,
    own_labels,
)
from flowworker_operator.render.container import SCRATCH, WORKER, compile_container, worker_container
from flowworker_operator.render.environment import revision_variable
from flowworker_operator.render.secrets import AUTHORITY, CLIENT, DATABASE, DIRECT, OWNER, keys_of

_BESIDE_A_WORKER = frozenset({"initContainers", "readinessGates", "topologySpreadConstraints"})


def pod_template(name: str, spec: FlowWorkerSpec) -> dict[str, Any]:
    """The pods of a FlowWorker of this name, without what names their revision and their owner."""
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
        "spec": _pod_spec(spec, spec.template.pod_spec()),
    }


def with_revision(pod: Mapping[str, Any], revision: str) -> dict[str, Any]:
    """The spec of a pod whose worker knows its revision."""
    containers = [
        {**one, "env": [revision_variable(revision), *one["env"]]} if one["name"] == WORKER else one
        for one in pod["containers"]
    ]
    return {**pod, "containers": containers}


def compiler_spec(spec: FlowWorkerSpec) -> dict[str, Any]:
    """The pod that creates the flow: on the same nodes and with the same volumes as a worker.

    What the user adds to be beside a worker is left out.
    """
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


def volume_origins(spec: FlowWorkerSpec) -> dict[str, str]:
    """Which Secret or ConfigMap each volume is made from, in words, by the volume's name: kubelet names the volume."""
    fields = {
        DATABASE.name: ("spec.database.secretRef", spec.database.secret_ref),
        DIRECT.name: ("spec.database.directSecretRef", spec.database.direct_secret_ref),
        OWNER.name: ("spec.database.ownerSecretRef", spec.database.owner_secret_ref),
        AUTHORITY.name: ("spec.database.caRef", spec.database.ca_ref),
        CLIENT.name: ("spec.database.clientCertificateRef", spec.database.client_certificate_ref),
    }
    ours = {
        name: f"{field}: key {' and '.join(keys_of(reference))} of secret {reference.name}"
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
        (CLIENT, spec.database.client_certificate_ref),
    )
    grouped = "fsGroup" in (spec.template.pod_spec().get("securityContext") or {})
    ours = [mount.volume(reference, private_to_group=grouped) for mount, reference in secrets if reference is not None]
    ours.append({"name": SCRATCH["name"], "emptyDir": {}})
    taken = {volume["name"] for volume in ours}
    return [*ours, *(dict(volume) for volume in given or () if volume.get("name") not in taken)]
