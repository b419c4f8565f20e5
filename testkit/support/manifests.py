"""What a cluster would say to manifests, as far as that can be known without one."""

from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate  # pyright: ignore[reportMissingTypeStubs]
from pydantic import ValidationError

from flowworker_operator.api.model import API_VERSION, KIND
from flowworker_operator.api.spec import FlowWorkerSpec

Object = dict[str, Any]

KUBERNETES = "1.36"

UNKNOWN_HERE = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1", "postgresql.cnpg.io/v1"}
"""APIs that exist and whose schema is not at hand."""

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""Kinds of volumes that Pod Security `restricted` takes."""

_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
}
"""Where the kinds we use keep their pod."""


def complaints(item: Object, version: str = KUBERNETES) -> list[str]:
    """Everything that is wrong with an object for a version of Kubernetes; unknown fields count."""
    try:
        return _flowworker(item) if item["apiVersion"] == API_VERSION else _builtin(item, version)
    except ValidationError as error:
        return [str(error)]
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]


def pod_of(item: Object) -> Object | None:
    """The spec of the pods that an object makes, if it makes any."""
    if item["kind"] not in _TEMPLATES:
        return None
    for field in _TEMPLATES[item["kind"]]:
        item = item[field]
    return item["spec"]


def breaches(pod: Object) -> list[str]:
    """What Pod Security `restricted` has against a pod, and what we ask for besides: a read-only root file system."""
    containers = (*pod.get("initContainers", ()), *pod["containers"])
    return [*_pod_breaches(pod), *(breach for one in containers for breach in _container_breaches(one))]


def _flowworker(item: Object) -> list[str]:
    if item["kind"] != KIND:
        return [f"kind: {item['kind']} is not known"]
    read = FlowWorkerSpec.model_validate(item["spec"]).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return [] if read == item["spec"] else [f"some of this is not known: {item['spec']}; understood: {read}"]


def _builtin(item: Object, version: str) -> list[str]:
    if item["apiVersion"] not in UNKNOWN_HERE:
        kubernetes_validate.validate(item, version, strict=True)
    return []


def _pod_breaches(pod: Object) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of the host"
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod.get("volumes", ()):
        if volume.keys() - {"name"} - allowed:
            yield f"volume {volume['name']} is of a kind that is not allowed"


def _container_breaches(container: Object) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{name} may escalate its privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write to its root file system"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield f"{name} takes a port of the host"
