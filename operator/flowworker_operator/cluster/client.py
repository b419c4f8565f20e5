"""The verbs the operator needs, on plain dictionaries."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import structlog

from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.errors import NotFound, Refused, TooLarge
from flowworker_operator.cluster.resources import Object, Objects, Resource
from flowworker_operator.cluster.transport import Transport

logger = structlog.stdlib.get_logger(__name__)

FIELD_MANAGER = "flowworker-operator"

FIRST_PAGE = 8
"""Objects asked for at once, until it is known how large they are: each may have a megabyte."""
LARGEST_PAGE = 500
PAGE_BYTES = 4 * 1024 * 1024
"""About how large an answer may be."""
MOST_EXPIRIES = 3
"""How often the pages of one list may expire."""

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
"""A list as `kubectl get` asks for it: the first column has the names."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


def whole(item: Object) -> Object:
    """All of an object."""
    return item


Measured: TypeAlias = Callable[[str, Resource], AbstractContextManager[None]]
"""Is entered around each call, with its verb and resource; a `ClusterError` passes through it."""


def unmeasured(_verb: str, _resource: Resource) -> AbstractContextManager[None]:
    """Count nothing."""
    return nullcontext()


class Cluster:
    """One API server.

    Every method raises `ClusterError` in one of its kinds; a request takes 30 seconds at most. Nothing is retried here:
    the caller knows whether the answer still matters.

    Example:
        async with Cluster.connect(None) as cluster:
            pods = await cluster.list(PODS, "default", labels="app=web")
    """

    def __init__(self, transport: Transport, measured: Measured = unmeasured) -> None:
        """Prepare; `measured` is entered around each call."""
        self._transport = transport
        self._measured = measured

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path | None, measured: Measured = unmeasured) -> AsyncGenerator[Self]:
        """A client for as long as the block lasts; no file means that we run in a pod of the cluster.

        Raises:
            UsageError: there is no such configuration. Whether the server answers is seen at the first request.
        """
        transport = Transport(await configuration(kubeconfig))
        try:
            yield cls(transport, measured)
        finally:
            await transport.close()

    def now(self) -> datetime:
        """The time of day by the API server, which stamps objects with it."""
        return self._transport.clock.now()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object, or None if there is none of this name."""
        with self._measured("get", resource):
            try:
                return await self._request("GET", resource, namespace, name)
            except NotFound as error:
                if not error.named:
                    raise
                return None

    async def create(self, resource: Resource, manifest: Object) -> Object:
        """Create an object; a field that the API server does not know is refused.

        Raises:
            AlreadyExists: there is one of this name.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        namespace, _ = _named(manifest)
        with self._measured("create", resource):
            return await self._request("POST", resource, namespace, query=query, body=manifest)

    async def apply(self, resource: Resource, manifest: Object) -> Object:
        """Make the fields of the manifest ours and set, create the object if need be, leave fields of others alone.

        `metadata.resourceVersion` in the manifest is a precondition for an object that exists; one that does not exist
        is created all the same, unless `metadata.uid` is given too.

        Raises:
            Conflict: the precondition does not hold.
        """
        with self._measured("apply", resource):
            return await self._apply(resource, manifest, None)

    async def apply_status(self, resource: Resource, manifest: Object) -> Object:
        """The same on the status of an object that exists.

        Only `metadata.resourceVersion` protects an object that was created anew under the old name: the API server
        ignores `metadata.uid` here.
        """
        with self._measured("apply_status", resource):
            return await self._apply(resource, manifest, "status")

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
        """Merge into an object; None deletes a field and a list is replaced whole.

        Raises:
            Conflict: it is another object by now, or another version of it.
        """
        guards = _given(resourceVersion=resource_version, uid=uid)
        metadata = {**cast("Mapping[str, Any]", patch.get("metadata", {})), **guards}
        body = {**patch, "metadata": metadata} if metadata else dict(patch)
        query = {"fieldManager": FIELD_MANAGER}
        with self._measured("patch", resource):
            return await self._request(
                "PATCH", resource, namespace, name, subresource, query=query, body=body, content_type=_MERGE
            )

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete an object and, in the background, what it owns; one that is gone already is fine.

        Raises:
            Conflict: it is another object by now, or another version of it.
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": _given(resourceVersion=resource_version, uid=uid),
        }
        with self._measured("delete", resource):
            try:
                await self._request("DELETE", resource, namespace, name, body=body)
            except NotFound as error:
                if not error.named:
                    raise

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
        """All objects, of all namespaces if None, that a label and a field selector match; read page by page.

        `keep` makes of each object what is kept of it, so that the whole of all of them is never in memory at once.
        With `most`, no page is read after that many.
        """
        with self._measured("list", resource):
            return await self._pages(resource, namespace, labels=labels, fields=fields, keep=keep, most=most)

    async def _pages(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str,
        fields: str,
        keep: Callable[[Object], Object],
        most: int | None,
    ) -> Objects:
        path = _path("GET", resource, namespace)
        query = _given(labelSelector=labels or None, fieldSelector=fields or None)
        found, limit, token, expired = list[Object](), FIRST_PAGE, "", 0
        while True:
            try:
                page, size = await self._transport.sized(
                    "GET", path, query={**query, "limit": str(limit), **_token(token)}
                )
            except TooLarge:
                if limit > 1:
                    limit //= 2
                elif not (token := await self._skip(path, {**query, "limit": "1", **_token(token)})):
                    return found
                continue
            except Refused as error:
                expired += 1
                if error.status != HTTPStatus.GONE or expired > MOST_EXPIRIES:
                    raise
                # The pages were of a version that the server has let go; it offers to go on with the present one.
                token = error.go_on
                found = found if token else []
                continue
            items = _items(resource, page)
            found += map(keep, items)
            token = page["metadata"].get("continue") or ""
            if not token or (most is not None and len(found) >= most):
                return found
            limit = next_limit(limit, len(items), size)

    async def _skip(self, path: str, query: Mapping[str, str]) -> str:
        """Leave out one object that is too large to be read, but name it; where the list goes on."""
        page, _ = await self._transport.sized("GET", path, query={**query, "includeObject": "None"}, accept=_TABLE)
        names = [row["cells"][0] for row in cast("Objects", page["rows"] or ())]
        logger.warning("an object is larger than is read, and left out", place=path, name=", ".join(names))
        return page["metadata"].get("continue") or ""

    async def _apply(self, resource: Resource, manifest: Object, subresource: str | None) -> Object:
        namespace, name = _named(manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request(
            "PATCH", resource, namespace, name, subresource, query=query, body=manifest, content_type=_APPLY
        )

    async def _request(
        self,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str | None = None,
        subresource: str | None = None,
        **how: Any,
    ) -> Object:
        path = _path(method, resource, namespace, name, subresource)
        return await self._transport.request(method, path, **how)


def _path(
    method: str, resource: Resource, namespace: str | None, name: str | None = None, subresource: str | None = None
) -> str:
    try:
        return resource.path(namespace, name, subresource)
    except ValueError as error:
        raise Refused(0, "InvalidName", str(error), where=f"{method} {resource.plural}") from error


def next_limit(limit: int, objects: int, size: int) -> int:
    """How many objects to ask for next, after a page of at most `limit` with so many objects and bytes.

    Never more than twice as many: large objects may follow small ones.
    """
    return max(1, min(LARGEST_PAGE, 2 * limit, PAGE_BYTES * objects // max(1, size)))


def _token(token: str) -> dict[str, str]:
    return {"continue": token} if token else {}


def _named(manifest: Object) -> tuple[str, str]:
    metadata = cast("Mapping[str, str]", manifest["metadata"])
    return metadata["namespace"], metadata["name"]


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _items(resource: Resource, page: Object) -> Objects:
    """With the kind, which the server leaves out in lists."""
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [{**kind, **item} for item in cast("Objects", page["items"] or ())]
