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

from testkit.support.framing import (
    BACKEND_KEY,
    CANCEL_REQUEST,
    COMMAND_COMPLETE,
    READY,
    SSL_REQUEST,
    Frame,
    Splitter,
    Statements,
    application_of,
    key_of,
    rows_of,
)
from testkit.support.line import Line, Weather

__all__ = ["Line", "Moment", "Proxy", "Weather"]

CHUNK = 65536
REFUSED_SSL = b"N"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


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
    line: Line
    server: asyncio.StreamWriter | None = None
    answers: "asyncio.Future[asyncio.StreamReader]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done once the server was reached."""
    key: bytes = b""
    """What a request to cancel its statement must carry."""
    statements: Statements = field(default_factory=Statements)
    application: str = ""
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
        self._keys: dict[bytes, Conversation] = {}
        self._lines: dict[str, Line] = {}
        self._line = Line(self._reset)
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
        """The weather of connections without a line of their own."""
        return self._line.weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._line.weather = weather

    @property
    def latency(self) -> float:
        """Seconds added to each chunk, in each direction."""
        return self._line.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._line.latency = seconds

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second of each connection, in each direction."""
        return self._line.bandwidth

    @bandwidth.setter
    def bandwidth(self, bandwidth: float | None) -> None:
        self._line.bandwidth = bandwidth

    @property
    def trickle(self) -> bool:
        """One byte at a time."""
        return self._line.trickle

    @trickle.setter
    def trickle(self, trickle: bool) -> None:
        self._line.trickle = trickle

    @property
    def applications(self) -> set[str]:
        """Application names of the connections there are."""
        return {conversation.application for conversation in self._conversations}

    def line(self, application: str) -> Line:
        """The line of the connections, now and later, that come under this application name; requests to cancel their
        statements take it as well.
        """
        if application not in self._lines:
            self._lines[application] = Line(self._reset)
            for conversation in self._conversations:
                if conversation.application == application:
                    conversation.line = self._lines[application]
        return self._lines[application]

    def reset(self) -> None:
        """Reset every connection there is; new ones are welcome."""
        for conversation in tuple(self._conversations):
            conversation.reset()

    def _reset(self, line: Line) -> None:
        for conversation in tuple(self._conversations):
            if conversation.line is line:
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
        conversation = Conversation(writer, self._line)
        if self.weather is Weather.REFUSED:
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
            self._keys.pop(conversation.key, None)
            self._tasks.discard(task)
            conversation.reset()

    async def _serve(self, conversation: Conversation, reader: asyncio.StreamReader) -> None:
        asking = asyncio.create_task(self._ask(conversation, reader))
        answering = asyncio.create_task(self._answer_all(conversation))
        try:
            done, _ = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            answering.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
        for task in done:
            task.result()

    async def _ask(self, conversation: Conversation, reader: asyncio.StreamReader) -> None:
        splitter = Splitter(starting=True)

        async def deal(data: bytes) -> None:
            await conversation.line.delay(len(data))
            frames = splitter.feed(data)
            passed = b"".join([await self._admit(conversation, frame) for frame in frames])
            if passed and conversation.server is not None:
                await self._send(conversation, conversation.server, passed)

        await self._pump(conversation, reader, deal)

    async def _answer_all(self, conversation: Conversation) -> None:
        reader = await conversation.answers
        splitter = Splitter(starting=False)

        async def deal(data: bytes) -> None:
            passed = b"".join(self._answer(conversation, frame) for frame in splitter.feed(data))
            if passed:
                await self._send(conversation, conversation.client, passed)

        await self._pump(conversation, reader, deal)

    async def _pump(
        self, conversation: Conversation, reader: asyncio.StreamReader, deal: Callable[[bytes], Awaitable[None]]
    ) -> None:
        while data := await reader.read(CHUNK):
            if not self._is_lost(conversation):
                await conversation.line.passable()
                await deal(data)
        if conversation.dead:  # the end of a connection is a message, too, that does not arrive
            await conversation.line.reachable()
        await conversation.line.passable()

    def _is_lost(self, conversation: Conversation) -> bool:
        conversation.dead = conversation.dead or conversation.line.weather is Weather.SWALLOWED
        return conversation.dead

    async def _admit(self, conversation: Conversation, frame: Frame) -> bytes:
        """What of a client's message passes to the server."""
        if not frame.kind and frame.code == SSL_REQUEST:
            await self._send(conversation, conversation.client, REFUSED_SSL)
            return b""
        if conversation.server is None:
            self._introduce(conversation, frame)
            if self._is_lost(conversation):
                return b""
            reader, conversation.server = await asyncio.open_connection("127.0.0.1", self._target)
            conversation.answers.set_result(reader)
        self._watch(conversation, frame)
        return frame.raw

    def _introduce(self, conversation: Conversation, frame: Frame) -> None:
        """Choose the line, by who the client says it is or by whose statement it wants to be cancelled."""
        if frame.code == CANCEL_REQUEST:
            meant = self._keys.get(key_of(frame))
            conversation.line = self._line if meant is None else meant.line
        else:
            conversation.application = application_of(frame)
            conversation.line = self._lines.get(conversation.application, self._line)
        if conversation.line.weather is Weather.REFUSED:
            raise CutError

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

    def _answer(self, conversation: Conversation, frame: Frame) -> bytes:
        """What passes to the client now; an answer is withheld until the commit shows whether a trap springs."""
        if frame.kind == BACKEND_KEY:
            conversation.key = frame.body
            self._keys[frame.body] = conversation
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

    async def _send(self, conversation: Conversation, writer: asyncio.StreamWriter, data: bytes) -> None:
        line = conversation.line
        if line.latency:
            await asyncio.sleep(line.latency)
        for piece in line.pieces(data):
            if writer is conversation.client:
                await line.delay(len(piece))
            writer.write(piece)
            await writer.drain()
