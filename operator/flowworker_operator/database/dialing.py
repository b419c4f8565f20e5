"""Connects the driver: to hosts that our own resolver looks up, behind a gate.

The driver takes its event loop as an argument and asks it for connections. What it is given here is the running loop,
with those two calls replaced; everything else is the loop's own.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from asyncpg.protocol.protocol import Protocol

from flowworker.database.connection import Connection, open_connection
from flowworker.database.dsn import ConnectArguments
from flowworker_operator.database.gate import Gate, GatedProtocol, GatedTransport

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!SHA1:!AESCCM"
"""Of TLS 1.2. With DHE a server chooses a group of any size, whose arithmetic keeps the event loop for a third of a
second at each attempt to connect."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the addresses of a host, at least one; raises OSError."""
ProtocolFactory = Callable[[], asyncio.Protocol]


@dataclass(slots=True, eq=False)
class Dialer:
    """Opens connections for one watcher."""

    resolve: Resolve
    refused: str | None = field(default=None, init=False)
    """Why the gate has ended a connection since the last one was opened."""

    async def open(
        self,
        arguments: ConnectArguments,
        *,
        application_name: str,
        statement_cache: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> Connection:
        """Open a connection, as `flowworker.database.connection.connect` does."""
        self.refused = None
        connection = await open_connection(
            arguments,
            application_name=application_name,
            statement_cache=statement_cache,
            settings=settings,
            loop=cast("asyncio.AbstractEventLoop", _Loop(asyncio.get_running_loop(), self)),
        )
        transport: GatedTransport = connection._transport  # pyright: ignore
        transport.gate.begin()
        return connection

    def refuse(self, reason: str) -> None:
        """Take in why a gate has ended a connection."""
        self.refused = reason


class _Loop:
    """The running loop, as the driver sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer) -> None:
        self._loop = loop
        self._dialer = dialer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: ProtocolFactory, host: str, port: int, *, ssl: ssl.SSLContext | None = None
    ) -> tuple[GatedTransport, asyncio.Protocol]:
        """Connect to the first address of a host that answers."""
        failure: OSError | None = None
        name = host if ssl is not None else None
        if ssl is not None:
            ssl.set_ciphers(SUITES)
        for address in await self._dialer.resolve(host):
            gate = Gate(self._dialer.refuse)
            try:
                transport, gated = await self._loop.create_connection(
                    lambda gate=gate: _behind(gate, factory()), address, port, ssl=ssl, server_hostname=name
                )
            except OSError as error:
                failure = error
                continue
            return GatedTransport(transport, gate), gated.inner
        raise failure or OSError(f"{host} has no address")

    async def start_tls(
        self, transport: GatedTransport, protocol: asyncio.Protocol, context: ssl.SSLContext, *, server_hostname: str
    ) -> GatedTransport | None:
        """Begin TLS; the gate then stands behind it."""
        context.set_ciphers(SUITES)
        secure = await self._loop.start_tls(transport.transport, protocol, context, server_hostname=server_hostname)
        return None if secure is None else GatedTransport(secure, transport.gate)


def _behind(gate: Gate, protocol: asyncio.Protocol) -> GatedProtocol:
    return GatedProtocol(protocol, gate, framed=isinstance(protocol, Protocol))
