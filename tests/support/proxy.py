"""A TCP proxy in front of PostgreSQL: makes every kind of bad network, and cuts at a chosen point of a statement."""

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.framing import COMMAND_COMPLETE, READY, SSL_REQUEST, Frame, Splitter, Statements, rows_of

CHUNK = 65536
REFUSED_SSL = b"N"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


class Weather(Enum):
    """What happens to bytes and to new connections."""

    CLEAR = auto()
    HELD = auto()
    """Packets are lost and sent again later: everything arrives once the weather is clear."""
    SWALLOWED = auto()
    """Bytes vanish for good and nobody is told: a connection that sends meanwhile stays dead for ever."""
    REFUSED = auto()
    """Connections are reset, new ones as well."""


class Moment(Enum):
    """When a trap springs."""

    BEFORE_SEND = auto()
    """The server never sees the statement."""
    AFTER_COMMIT = auto()
    """The server has committed, the client never hears of it."""


@dataclass(slots=True, kw_only=True)
class Trap:
    """Springs once, for the first statement that matches, and resets its connection."""

    pattern: "re.Pattern[str]"
    moment: Moment
    least_rows: int = 0
    """An answer with fewer rows passes."""
    action: Callable[[], None]
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def catches(self, statement: str, moment: Moment) -> bool:
        """Whether this is the statement, at this point."""
        return not self.sprung.is_set() and self.moment is moment and self.pattern.search(statement) is not None

    def spring(self) -> None:
        """Do what was planned for this very moment."""
        self.sprung.set()
        self.action()


@dataclass(slots=True, eq=False)
class Conversation:
    """One connection: both its ends, and the statement that is on its way."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    statements: Statements = field(default_factory=Statements)
    current: str = ""
    withheld: list[Frame] = field(default_factory=list[Frame])
    rows: int = 0
    dead: bool = False
    """It lost bytes."""

    def close(self) -> None:
        """End both sides in good order: what was sent before still arrives."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """End both sides with RST, unless they have ended."""
        for writer in (self.client, self.server):
            if writer is not None and not writer.is_closing():
                link: socket.socket = writer.get_extra_info("socket")
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()


class CutError(Exception):
    """A trap has ended this connection."""


class Proxy:
    """Listens on a free port of loopback and passes everything on to a server.

    Example:
        >>> async with Proxy(server.port) as proxy:  # doctest: +SKIP
        ...     await connect(proxy.dsn(database.dsn), application_name="test")
    """

    def __init__(self, port: int) -> None:
        """Forward to this port of loopback."""
        self._target = port
        self._conversations: set[Conversation] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._traps: list[Trap] = []
        self._passable = asyncio.Event()
        self._passable.set()
        self._weather = Weather.CLEAR
        self.latency = 0.0
        """Seconds added to each chunk, in each direction."""
        self.trickle = False
        """One byte at a time."""
        self.accepted = 0
        """Connections so far, refused ones included."""
        self.begun = 0
        """Statements that clients have begun so far."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def dsn(self, dsn: str) -> str:
        """The same connection string through this proxy."""
        parts = urlsplit(dsn)
        return parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}").geturl()

    @property
    def weather(self) -> Weather:
        """The weather now."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.HELD:
            self._passable.clear()
        else:
            self._passable.set()
        if weather is Weather.REFUSED:
            self.reset()

    def reset(self) -> None:
        """Reset every connection there is; new ones are welcome."""
        for conversation in tuple(self._conversations):
            conversation.reset()

    def trap(
        self, pattern: str, moment: Moment, *, least_rows: int = 0, action: Callable[[], None] = lambda: None
    ) -> Trap:
        """Cut the connection at a moment of the first statement that matches, after doing `action`."""
        trap = Trap(pattern=re.compile(pattern), moment=moment, least_rows=least_rows, action=action)
        self._traps.append(trap)
        return trap

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        conversation = Conversation(writer)
        if self._weather is Weather.REFUSED:
            conversation.reset()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._conversations.add(conversation)
        try:
            await self._serve(conversation, reader)
            conversation.close()
        except (OSError, CutError, asyncio.CancelledError):  # cancelled by our own end only; asyncio would log it
            pass
        finally:
            self._conversations.discard(conversation)
            self._tasks.discard(task)
            conversation.reset()

    async def _serve(self, conversation: Conversation, reader: asyncio.StreamReader) -> None:
        answers, conversation.server = await asyncio.open_connection("127.0.0.1", self._target)
        asking = asyncio.create_task(self._pump(conversation, reader, self._on_client(conversation)))
        answering = asyncio.create_task(self._pump(conversation, answers, self._on_server(conversation)))
        try:
            done, _ = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            answering.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
        for task in done:
            task.result()

    async def _pump(
        self, conversation: Conversation, reader: asyncio.StreamReader, deal: Callable[[bytes], Awaitable[None]]
    ) -> None:
        while data := await reader.read(CHUNK):
            if self._weather is Weather.SWALLOWED or conversation.dead:
                conversation.dead = True
                continue
            await self._passable.wait()
            await deal(data)
        if conversation.dead:  # the end of a connection is a message, too, that does not arrive
            await asyncio.Event().wait()
        await self._passable.wait()

    def _on_client(self, conversation: Conversation) -> Callable[[bytes], Awaitable[None]]:
        splitter = Splitter(starting=True)

        async def deal(data: bytes) -> None:
            passed: list[bytes] = []
            for frame in splitter.feed(data):
                if not frame.kind and frame.code == SSL_REQUEST:
                    await self._send(conversation.client, REFUSED_SSL)
                    continue
                self._watch(conversation, frame)
                passed.append(frame.raw)
            assert conversation.server is not None
            await self._send(conversation.server, b"".join(passed))

        return deal

    def _watch(self, conversation: Conversation, frame: Frame) -> None:
        statement = conversation.statements.begun_by(frame)
        if statement is None:
            return
        self.begun += 1
        conversation.current = statement
        for trap in self._traps:
            if trap.catches(statement, Moment.BEFORE_SEND):
                trap.spring()
                raise CutError

    def _on_server(self, conversation: Conversation) -> Callable[[bytes], Awaitable[None]]:
        splitter = Splitter(starting=False)

        async def deal(data: bytes) -> None:
            passed = [self._answer(conversation, frame) for frame in splitter.feed(data)]
            await self._send(conversation.client, b"".join(passed))

        return deal

    def _answer(self, conversation: Conversation, frame: Frame) -> bytes:
        """What passes to the client now; an answer is withheld until the commit shows whether a trap springs."""
        caught = [trap for trap in self._traps if trap.catches(conversation.current, Moment.AFTER_COMMIT)]
        if not caught and not conversation.withheld:
            return frame.raw
        conversation.withheld.append(frame)
        if frame.kind == COMMAND_COMPLETE:
            conversation.rows = rows_of(frame)
        if frame.kind != READY:
            return b""
        withheld, conversation.withheld = conversation.withheld, []
        rows, conversation.rows = conversation.rows, 0
        conversation.current = ""
        for trap in caught:
            if rows >= trap.least_rows:
                trap.spring()
                raise CutError
        return b"".join(one.raw for one in withheld)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not data:
            return
        if self.latency:
            await asyncio.sleep(self.latency)
        for piece in (data[index : index + 1] for index in range(len(data))) if self.trickle else (data,):
            writer.write(piece)
            await writer.drain()
