"""The Kubernetes API as a test uses it: as a client other than the operator, with plain dictionaries."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.errors import NotFound
from flowworker_operator.cluster.resources import (
    DEPLOYMENTS,
    EVENTS,
    FLOWWORKERS,
    PODS,
    SECRETS,
    Object,
    Objects,
    Resource,
)
from flowworker_operator.cluster.transport import Transport

__all__ = [
    "CONFIG_MAPS", "DEPLOYMENTS", "EVENTS", "FLOWWORKERS", "NAMESPACES", "NODES", "PODS", "SECRETS", "SERVICES",
    "STATEFUL_SETS", "Kube", "Object", "Objects",
]  # fmt: skip

FIELD_MANAGER = "e2e"

NAMESPACES = Resource(api_version="v1", kind="Namespace", plural="namespaces")
NODES = Resource(api_version="v1", kind="Node", plural="nodes")
CONFIG_MAPS = Resource(api_version="v1", kind="ConfigMap", plural="configmaps")
SERVICES = Resource(api_version="v1", kind="Service", plural="services")
STATEFUL_SETS = Resource(api_version="apps/v1", kind="StatefulSet", plural="statefulsets")

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Kube:
    """A few verbs. Every method raises flowworker_operator.cluster.errors.ClusterError when the server refuses."""

    def __init__(self, transport: Transport) -> None:
        """Use `connect`."""
        self._transport = transport

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncGenerator[Self]:
        """A client for as long as the block lasts."""
        transport = Transport(await configuration(kubeconfig))
        try:
            yield cls(transport)
        finally:
            await transport.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        try:
            return await self._transport.request("GET", resource.path(namespace, name))
        except NotFound:
            return None

    async def list(self, resource: Resource, namespace: str | None, *, labels: str = "") -> Objects:
        """All objects that a label selector matches."""
        query = {"labelSelector": labels} if labels else {}
        page = await self._transport.request("GET", resource.path(namespace), query=query)
        return page["items"]

    async def apply(self, resource: Resource, namespace: str | None, manifest: Object) -> Object:
        """Create or change an object by server-side apply, as `kubectl apply --server-side` does."""
        metadata = {**manifest["metadata"], **({"namespace": namespace} if namespace else {})}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest, "metadata": metadata}
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        path = resource.path(namespace, metadata["name"])
        return await self._transport.request("PATCH", path, query=query, body=body, content_type=APPLY)

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """Merge into an object."""
        path = resource.path(namespace, name, subresource or None)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._transport.request("PATCH", path, query=query, body=dict(patch), content_type=MERGE)

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, grace: int | None = None) -> None:
        """Delete an object; one that is gone is fine. A grace of 0 kills a pod."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self._transport.request("DELETE", resource.path(namespace, name), body=body)
        except NotFound:
            return

    async def evict(self, namespace: str, pod: str) -> None:
        """Ask for a pod's eviction, as `kubectl drain` does.

        Raises:
            Unavailable: a disruption budget forbids it now.
        """
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        await self._transport.request("POST", PODS.path(namespace, pod, "eviction"), body=body)
