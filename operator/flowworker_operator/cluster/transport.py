"""One request to the API server: signed, sent, read and judged within its deadline."""

from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from flowworker.errors import UsageError
from flowworker_operator.cluster.errors import Answer, Unavailable, error_of
from flowworker_operator.cluster.resources import Object

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
"""Seconds; connecting includes the TLS handshake, which a frozen server never answers."""

CONNECTIONS = 32
"""At most so many at once; they are kept alive between requests."""

USER_AGENT = "flowworker-operator"


class Transport:
    """Requests and answers as dictionaries."""

    def __init__(self, configuration: Configuration, timeout: aiohttp.ClientTimeout = TIMEOUT) -> None:
        """Prepare; connections are made by requests.

        Raises:
            UsageError: the certificates cannot be used.
        """
        configuration.connection_pool_maxsize = CONNECTIONS
        self._timeout = timeout
        try:
            self._client: Any = ApiClient(configuration)
        except OSError as error:
            raise UsageError(f"the certificates for {configuration.host} cannot be used: {error}") from error
        self._client.user_agent = USER_AGENT

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Send and return what was answered.

        Raises:
            ClusterError: one of its kinds.
        """
        where = f"{method} {path}"
        try:
            response = await self._send(method, path, query or {}, body, content_type)
            data: bytes = await response.read()
        except TimeoutError as error:
            raise Unavailable(0, "Timeout", "the API server did not answer in time", where=where) from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unavailable(0, "Unreachable", f"{type(error).__name__}: {error}", where=where) from error
        return _judged(response, data, where)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, content_type: str
    ) -> Any:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request, _request_timeout=self._timeout)


def _judged(response: Any, data: bytes, where: str) -> Object:
    status = cast("int", response.status)
    if status >= 300:
        retry_after = cast("str | None", response.headers.get("Retry-After"))
        raise error_of(Answer(status=status, body=data, retry_after=retry_after), where)
    try:
        return cast("Object", orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise Unavailable(status, "BadAnswer", "something else than the API server answered", where=where) from error
