"""PostgreSQL servers that mean no good: each answers as a real one up to a point, and there it does one bad thing."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from testkit.support.framing import SSL_REQUEST, Splitter

MIB = 1 << 20
CHUNK = 1 << 16

Misdeed: TypeAlias = Callable[[bytes], AsyncIterator[bytes]]
"""What is sent, piece by piece, for as long as the other side takes it; gets what the other side said last."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """One message of a server."""
    return kind + struct.pack("!i", len(body) + 4) + body


def announced(kind: bytes, length: int) -> bytes:
    """The beginning of a message that says how long it is."""
    return kind + struct.pack("!i", length + 4)


AUTHENTICATED = frame(b"R", struct.pack("!i", 0))
READY = frame(b"Z", b"I")
GREETING = (
    AUTHENTICATED
    + frame(b"S", b"server_version\0" + b"17.0\0")
    + frame(b"S", b"client_encoding\0UTF8\0")
    + frame(b"S", b"standard_conforming_strings\0on\0")
    + frame(b"K", struct.pack("!ii", 1, 2))
    + READY
)
COLUMN = b"x\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
DESCRIBED = frame(b"1") + frame(b"t", struct.pack("!h", 0)) + frame(b"T", struct.pack("!h", 1) + COLUMN)


async def _endless(first: bytes, filler: bytes, total: int) -> AsyncIterator[bytes]:
    yield first
    piece = filler * max(1, CHUNK // len(filler))
    for _ in range(total // len(piece)):
        yield piece


def long_error(_: bytes) -> AsyncIterator[bytes]:
    """An error whose text is 20 MiB of words."""
    size = 20 * MIB
    return _endless(announced(b"E", size) + b"SERROR\0C28000\0M", b"a word ", size)


def huge_row(_: bytes) -> AsyncIterator[bytes]:
    """A row with a value of a gigabyte."""
    size = 1 << 30
    return _endless(frame(b"2") + announced(b"D", size) + struct.pack("!hi", 1, size - 6), b"v" * CHUNK, size)


def many_rows(_: bytes) -> AsyncIterator[bytes]:
    """Small rows without end."""
    row = frame(b"D", struct.pack("!hi", 1, 1) + b"v")
    return _endless(frame(b"2"), row, 512 * MIB)


def many_notices(_: bytes) -> AsyncIterator[bytes]:
    """Notices without end."""
    return _endless(b"", frame(b"N", b"SNOTICE\0C00000\0Mhush\0\0"), 512 * MIB)


async def many_settings(_: bytes) -> AsyncIterator[bytes]:
    """Reports of settings without end, each of another one."""
    for start in range(0, 10_000_000, 1000):
        yield b"".join(frame(b"S", b"setting_%d\0%s\0" % (one, b"v" * 100)) for one in range(start, start + 1000))


async def costly_password(said: bytes) -> AsyncIterator[bytes]:
    """A check of the password that takes a minute to compute."""
    nonce = said.rpartition(b"r=")[2] + b"x"
    yield frame(b"R", struct.pack("!i", 11) + b"r=" + nonce + b",s=c2FsdHNhbHQ=,i=200000000")


async def dear_password(said: bytes) -> AsyncIterator[bytes]:
    """A check of the password that takes as long as it may; then the server hangs up."""
    nonce = said.rpartition(b"r=")[2] + b"x"
    yield frame(b"R", struct.pack("!i", 11) + b"r=" + nonce + b",s=c2FsdHNhbHQ=,i=100000")
    await asyncio.sleep(0.5)
    raise ConnectionResetError


async def nonsense(_: bytes) -> AsyncIterator[bytes]:
    """Bytes that are no protocol."""
    yield b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000


AT_START = {long_error, many_notices, many_settings, nonsense, costly_password}
"""Done before the session begins."""


async def out_of_turn(_: bytes) -> AsyncIterator[bytes]:
    """Messages of the protocol in states that have no place for them."""
    yield frame(b"2") + READY + READY + frame(b"3") + frame(b"W", b"\0\0\0")


IN_ANSWER = {out_of_turn, long_error, huge_row, many_rows, many_notices, many_settings}
"""Done in the answer to the first statement."""


class HostileServer:
    """Serves one misdeed, to every connection."""

    def __init__(self, misdeed: Misdeed, *, at_start: bool) -> None:
        self.misdeed = misdeed
        self.at_start = at_start
        self._sessions: set[asyncio.Task[None]] = set()
        self.done = 0
        """Connections to which the misdeed was begun."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str]:
        """The connection string of the server while it runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://u:p@127.0.0.1:{port}/app"
        finally:
            server.close()
            for session in self._sessions:
                session.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._talk(reader, writer))
        self._sessions.add(session)
        with suppress(ConnectionError, asyncio.CancelledError):
            await session
        self._sessions.discard(session)
        writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter(starting=True)
        greeted = False
        while data := await reader.read(CHUNK):
            for asked in splitter.feed(data):
                if not asked.kind and asked.code == SSL_REQUEST:
                    writer.write(b"N")
                elif not greeted:
                    greeted = True
                    if self.misdeed in {costly_password, dear_password}:
                        writer.write(frame(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
                    elif self.at_start:
                        return await self._misbehave(writer, b"")
                    else:
                        writer.write(GREETING)
                elif asked.kind == b"p":
                    return await self._misbehave(writer, asked.body)
                elif asked.kind == b"D":
                    writer.write(DESCRIBED)
                elif asked.kind in {b"E", b"Q"}:
                    return await self._misbehave(writer, b"")
        return None

    async def _misbehave(self, writer: asyncio.StreamWriter, said: bytes) -> None:
        self.done += 1
        async for piece in self.misdeed(said):
            writer.write(piece)
            await writer.drain()
        await asyncio.sleep(3600)
