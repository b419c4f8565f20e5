"""One request to the API server: signed, sent, read and judged within its deadline."""

import socket
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from flowworker.errors import UsageError
from flowworker_operator.cluster.errors import Answer, Unavailable, error_of
from flowworker_operator.cluster.resources import Object
from flowworker_operator.cluster.server_clock import ServerClock
from flowworker_operator.resolver import Resolver

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
"""Seconds; connecting includes the TLS handshake, which a frozen server never answers."""

CONNECTIONS = 32
"""At most so many at once; they are kept alive between requests."""

USER_AGENT = "flowworker-operator"

LOOKUPS = 4
"""Names looked up at once: the API server's, and that of a proxy."""


class _Names(AbstractResolver):
    """Looks names up where nothing else waits."""

    def __init__(self) -> None:
        self._resolver = Resolver(time.monotonic, threads=LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve("", host)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=_family(address), proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is kept open."""


class Transport:
    """Requests and answers as dictionaries."""

    def __init__(self, configuration: Configuration, timeout: aiohttp.ClientTimeout = TIMEOUT) -> None:
        """Prepare; connections are made by requests.

        Raises:
            UsageError: the certificates cannot be used.
        """
        configuration.connection_pool_maxsize = CONNECTIONS
        self.clock = ServerClock()
        self._timeout = timeout
        untyped: Any = configuration
        if untyped.proxy is None:
            untyped.proxy = _proxy(untyped.host)
        # Left to itself the client asks the environment and ~/.netrc at each request, in a pool that others may fill.
        untyped.client_session_kwargs = {"trust_env": False}
        try:
            self._client: Any = ApiClient(configuration)
        except OSError as error:
            raise UsageError(f"the certificates for {configuration.host} cannot be used: {error}") from error
        self._client.user_agent = USER_AGENT
        rest = self._client.rest_client
        # The hook that the client offers for a resolver of one's own.
        rest._create_connector = lambda: aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=rest.ssl_context, resolver=_Names()
        )

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
        answer, _ = await self.sized(method, path, query=query, body=body, content_type=content_type)
        return answer

    async def sized(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> tuple[Object, int]:
        """Send and return what was answered, and how many bytes it had.

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
        self.clock.told(response.headers.get("Date"))
        return _judged(response, data, where), len(data)

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


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a server."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
