"""Connections are passed from one network to the other."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from testkit.cluster.layout import LOOPBACK
from testkit.cluster.local.relay import serve_relay


@asynccontextmanager
async def relayed(port: int) -> AsyncGenerator[int]:
    """A port that leads to another one."""
    listening = socket.create_server((LOOPBACK, 0))
    async with await serve_relay(listening, LOOPBACK, port):
        yield listening.getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give back what comes until its end, then say goodbye."""
    content = await reader.read()
    writer.write(content + b" bye")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_everything_arrives_in_both_directions_and_so_does_the_end() -> None:
    server = await asyncio.start_server(echo, LOOPBACK, 0)
    async with server, relayed(server.sockets[0].getsockname()[1]) as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        content = b"x" * 1_000_000
        writer.write(content)
        writer.write_eof()
        assert await reader.read() == content + b" bye"
        writer.close()
        await writer.wait_closed()


async def test_who_cannot_be_reached_is_a_closed_connection_at_once() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        closed = taken.getsockname()[1]
    async with relayed(closed) as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_many_connections_share_the_relay() -> None:
    server = await asyncio.start_server(echo, LOOPBACK, 0)

    async def ask(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"%d" % number)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async with server, relayed(server.sockets[0].getsockname()[1]) as port:
        answers = await asyncio.gather(*(ask(port, number) for number in range(50)))
    assert answers == [b"%d bye" % number for number in range(50)]
