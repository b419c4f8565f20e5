"""One request to the API server: signed, sent, read and judged within its deadline."""

import asyncio
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from flowworker_operator.cluster.errors import Answer, TooLarge, Unavailable, error_of
from flowworker_operator.cluster.resources import Object
from flowworker_operator.cluster.server_clock import ServerClock
from flowworker_operator.cluster.shallow import shallow
from flowworker_operator.resolver import Resolver

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
"""Seconds; connecting includes the TLS handshake, which a frozen server never answers."""

CONNECTIONS = 64
"""At most so many at once, which is more than all rounds need: the Lease is renewed beside them. They are kept alive
between requests."""

LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes that are read of one answer. An object has a megabyte and a half at most where it is stored, and six times as
much where each of its characters is escaped."""
PIECE = 1 << 16

JSON = "application/json"

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
        self._cutter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers nested too deep")
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
        content_type: str = JSON,
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
        content_type: str = JSON,
        accept: str = JSON,
    ) -> tuple[Object, int]:
        """Send and return what was answered, and how many bytes it had.

        Raises:
            ClusterError: one of its kinds.
        """
        where = f"{method} {path}"
        try:
            response = await self._send(method, path, query or {}, body, content_type, accept)
            data = await _read(response.response)
        except TimeoutError as error:
            raise Unavailable(0, "Timeout", "the API server did not answer in time", where=where) from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise Unavailable(0, "Unreachable", f"{type(error).__name__}: {error}", where=where) from error
        self.clock.observe(response.headers.get("Date"))
        if data is None:
            what = f"the answer has more than {LARGEST_ANSWER} bytes"
            raise TooLarge(cast("int", response.status), "TooLarge", what, where=where)
        return await self._judged(response, data, where), len(data)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        self._cutter.shutdown(wait=False, cancel_futures=True)

    async def _judged(self, response: Any, data: bytes, where: str) -> Object:
        status = cast("int", response.status)
        if status >= 300:
            retry_after = cast("str | None", response.headers.get("Retry-After"))
            raise error_of(Answer(status=status, body=data, retry_after=retry_after), where)
        try:
            return cast("Object", orjson.loads(data))
        except orjson.JSONDecodeError:
            cut = await asyncio.get_running_loop().run_in_executor(self._cutter, shallow, data)
        try:
            return cast("Object", orjson.loads(cut))
        except orjson.JSONDecodeError as error:
            what = "something else than the API server answered"
            raise Unavailable(status, "BadAnswer", what, where=where) from error

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, content_type: str, accept: str
    ) -> Any:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request, _request_timeout=self._timeout)


async def _read(answer: aiohttp.ClientResponse) -> bytes | None:
    """All of an answer; None for one that is too large, whose connection is given up."""
    data = bytearray()
    try:
        async for piece in answer.content.iter_chunked(PIECE):
            data += piece
            if len(data) > LARGEST_ANSWER:
                return None
        return bytes(data)
    finally:
        if answer.content.at_eof():
            answer.release()
        else:
            answer.close()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a server."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
