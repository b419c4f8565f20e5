"""The Kubernetes API with its writes and failures counted."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from flowworker_operator.cluster.client import Cluster, whole
from flowworker_operator.cluster.errors import ClusterError
from flowworker_operator.cluster.resources import Object, Objects, Resource
from flowworker_operator.metrics import Metrics

T = TypeVar("T")


class MeteredCluster(Cluster):
    """A cluster that counts."""

    _metrics: Metrics

    @classmethod
    @asynccontextmanager
    async def metered(cls, kubeconfig: Path | None, metrics: Metrics) -> AsyncGenerator["MeteredCluster"]:
        """As `connect`.

        Raises:
            UsageError: there is no such configuration.
        """
        async with cls.connect(kubeconfig) as cluster:
            cluster._metrics = metrics
            yield cluster

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return await self._checked("get", resource, super().get(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        keep: Callable[[Object], Object] = whole,
        most: int | None = None,
    ) -> Objects:
        call = super().list(resource, namespace, labels=labels, fields=fields, keep=keep, most=most)
        return await self._checked("list", resource, call)

    async def create(self, resource: Resource, manifest: Object) -> Object:
        return await self._counted("create", resource, super().create(resource, manifest))

    async def apply(self, resource: Resource, manifest: Object) -> Object:
        return await self._counted("apply", resource, super().apply(resource, manifest))

    async def apply_status(self, resource: Resource, manifest: Object) -> Object:
        return await self._counted("apply_status", resource, super().apply_status(resource, manifest))

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
        uid: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        call = super().patch(
            resource, namespace, name, patch, resource_version=resource_version, uid=uid, subresource=subresource
        )
        return await self._counted("patch", resource, call)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        call = super().delete(resource, namespace, name, uid=uid, resource_version=resource_version)
        await self._counted("delete", resource, call)

    async def _counted(self, verb: str, resource: Resource, call: Awaitable[T]) -> T:
        self._metrics.writes.labels(verb, resource.plural).inc()
        return await self._checked(verb, resource, call)

    async def _checked(self, verb: str, resource: Resource, call: Awaitable[T]) -> T:
        try:
            return await call
        except ClusterError as error:
            self._metrics.errors.labels(verb, resource.plural, type(error).__name__).inc()
            raise
