"""Passes connections between two networks: accepted on a socket of the machine, made inside the namespaces.

A socket belongs to the network it was made in. The machine's socket is made outside, inherited by PID 1, and so
works inside; it goes when PID 1 goes, and nothing of the machine's network is changed.
"""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import closing, suppress

CHUNK = 1 << 16


async def serve_relay(listening: socket.socket, host: str, port: int) -> asyncio.Server:
    """Pass every connection that is accepted on to an address."""

    async def relay(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        with closing(writer), closing(far_writer):
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))

    return await asyncio.start_server(relay, sock=listening)


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    """Copy one direction; the end of the one is the end of the other."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        return
    writer.transport.abort()
