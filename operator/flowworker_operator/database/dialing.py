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
from flowworker.errors import AuthenticationError
from flowworker_operator.database.endpoint import GROUPS, restrict
from flowworker_operator.database.faults import has_no_common_ground
from flowworker_operator.database.gate import Gate, GatedProtocol, GatedTransport

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the addresses of a host, at least one; raises OSError."""
ProtocolFactory = Callable[[], asyncio.Protocol]


class _OtherGroupError(Exception):
    """A server takes no key of the group that it was offered; the driver would go on without encryption."""


@dataclass(slots=True, eq=False)
class Dialer:
    """Opens connections for one watcher."""

    resolve: Resolve
    groups: tuple[str, ...] = field(default=GROUPS, init=False)
    """For the exchange of keys, that of the last connection first; the first is the one in use."""
    refused: str | None = field(default=None, init=False)
    """Why the gate has ended a connection since the last one was opened."""
    _hashing: int = field(default=0, init=False)

    async def open(
        self,
        arguments: Callable[[str], ConnectArguments],
        *,
        application_name: str,
        statement_cache: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> Connection:
        """Open a connection, as `flowworker.database.connection.connect` does, with whatever group a server takes.

        Args:
            arguments: what the driver is given for a connection with keys of a group.
            application_name: as there.
            statement_cache: as there.
            settings: as there.
        """
        self.refused = None
        untried = len(GROUPS) - 1
        while True:
            given = arguments(self.groups[0])
            encrypts = isinstance(given.options["ssl"], ssl.SSLContext)
            loop = _Loop(asyncio.get_running_loop(), self, insists=untried > 0 and not encrypts)
            try:
                connection = await open_connection(
                    given,
                    application_name=application_name,
                    statement_cache=statement_cache,
                    settings=settings,
                    loop=cast("asyncio.AbstractEventLoop", loop),
                )
                break
            except (_OtherGroupError, AuthenticationError) as error:
                if not untried or not (isinstance(error, _OtherGroupError) or has_no_common_ground(error.__cause__)):
                    raise
                untried -= 1
                self.groups = (*self.groups[1:], self.groups[0])
        transport: GatedTransport = connection._transport  # pyright: ignore
        transport.gate.begin()
        return connection

    def take_hashing(self) -> int:
        """Rounds of hashing that passwords have taken since this was last asked."""
        taken, self._hashing = self._hashing, 0
        return taken

    def count_hashing(self, iterations: int) -> None:
        """Take in that the check of a password takes so many rounds of hashing."""
        self._hashing += iterations

    def refuse(self, reason: str) -> None:
        """Take in why a gate has ended a connection."""
        self.refused = reason


class _Loop:
    """The running loop, as the driver sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, *, insists: bool) -> None:
        """Let the driver do what it does, but for these calls.

        Args:
            loop: the running one.
            dialer: knows what is dialled, and with keys of which group.
            insists: where a server takes no such key the attempt ends, before the driver goes on without encryption.
        """
        self._loop = loop
        self._dialer = dialer
        self._insists = insists

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: ProtocolFactory, host: str, port: int, *, ssl: ssl.SSLContext | None = None
    ) -> tuple[GatedTransport, asyncio.Protocol]:
        """Connect to the first address of a host that answers."""
        failure: OSError | None = None
        name = host if ssl is not None else None
        if ssl is not None:
            restrict(ssl, self._dialer.groups[0])
        for address in await self._dialer.resolve(host):
            gate = Gate(self._dialer.refuse, self._dialer.count_hashing)
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
        restrict(context, self._dialer.groups[0])
        try:
            secure = await self._loop.start_tls(transport.transport, protocol, context, server_hostname=server_hostname)
        except ssl.SSLError as error:
            if self._insists and has_no_common_ground(error):
                raise _OtherGroupError from error
            raise
        return None if secure is None else GatedTransport(secure, transport.gate)


def _behind(gate: Gate, protocol: asyncio.Protocol) -> GatedProtocol:
    return GatedProtocol(protocol, gate, framed=isinstance(protocol, Protocol))
