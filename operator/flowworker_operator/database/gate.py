"""Bounds what a database may send, before the driver sees it.

A tenant's server is not trusted, and the driver keeps whatever a server sends: an answer of any size, an error text of
any length, settings and notices without end. So every connection has a gate between transport and driver. It follows
the frames of the protocol, five bytes each, and ends the connection at the first one that is too large or one too many:
of an answer that announces a gigabyte not even its first byte is kept. A statement that we send opens the gate anew.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

HEADER = 5
LENGTH = 4

ANSWER_BYTES = 1 << 20
"""Of all frames after one of our writes. A thousand workers with long errors take less; 1 MiB of the worst JSON becomes
twelve times as much in memory."""
ANSWER_FRAMES = 10_000
"""The driver handles some 500 in a millisecond."""
STARTUP_BYTES = 1 << 16
STARTUP_FRAMES = 500
"""Until the session begins, whatever we write: a server could ask for passwords in turn for ever."""
FRAME_BYTES = 1 << 16
"""Of one frame that is no row: errors, notices, descriptions of rows."""
SETTINGS = 100
"""Reports of settings (ParameterStatus) in the life of a connection, each of which the driver remembers."""
SCRAM_ITERATIONS = 100_000
"""Rounds of hashing that a server may ask for on one connection; PostgreSQL asks for 4096. The event loop does them, in
about 24 ms; the watcher that connects rests in proportion."""

ROW, SETTING, AUTHENTICATION = b"D", b"S", b"R"
_ITERATIONS = re.compile(rb",i=(\d+)")

TOO_LARGE = "its answer is larger than the operator reads"
TOO_MANY = "it sends more messages than the operator reads"
NOT_POSTGRESQL = "it does not speak PostgreSQL's protocol"
TOO_COSTLY = f"it asks for more than {SCRAM_ITERATIONS} iterations to check the password"


class Gate:
    """What one connection may still receive."""

    def __init__(self, refused: Callable[[str], None], hashing: Callable[[int], None]) -> None:
        """Allow what it takes to begin a session.

        Args:
            refused: called once, with why the connection is ended.
            hashing: called with the rounds of hashing that a check of the password is about to take.
        """
        self._refused = refused
        self._hashing = hashing
        self._begun = False
        self._closed = False
        self._bytes = STARTUP_BYTES
        self._frames = STARTUP_FRAMES
        self._settings = SETTINGS
        self._iterations = SCRAM_ITERATIONS
        self._header = b""
        self._body = 0
        self._proof: bytearray | None = None
        """What has arrived of a frame that is looked into."""

    def begin(self) -> None:
        """The session has begun: from now on each write is a question whose answer has a budget of its own."""
        self._begun = True
        self.asked()

    def asked(self) -> None:
        """We have written something."""
        if self._begun:
            self._bytes, self._frames = ANSWER_BYTES, ANSWER_FRAMES

    def refuse(self, reason: str) -> None:
        """Let nothing more through."""
        if not self._closed:
            self._closed = True
            self._refused(reason)

    def admits(self, data: bytes, *, framed: bool) -> bool:
        """Whether the driver may have this."""
        if self._closed:
            return False
        reason = self._judge(data) if framed else self._judge_raw(data)
        if reason is not None:
            self.refuse(reason)
        return reason is None

    def _judge_raw(self, data: bytes) -> str | None:
        self._bytes -= len(data)
        return TOO_LARGE if self._bytes < 0 else None

    def _judge(self, data: bytes) -> str | None:
        at, size = 0, len(data)
        while at < size:
            if self._body:
                step = min(self._body, size - at)
                self._body -= step
                if self._proof is not None:
                    self._proof += data[at : at + step]
                    if not self._body and (reason := self._judge_proof()) is not None:
                        return reason
                at += step
                continue
            step = min(HEADER - len(self._header), size - at)
            self._header += data[at : at + step]
            at += step
            if len(self._header) == HEADER and (reason := self._begin_frame()) is not None:
                return reason
        return None

    def _begin_frame(self) -> str | None:
        kind, length = self._header[:1], int.from_bytes(self._header[1:])
        self._header = b""
        if length < LENGTH or not kind.isalnum():
            return NOT_POSTGRESQL
        self._body = length - LENGTH
        self._bytes -= length + 1
        self._frames -= 1
        self._settings -= kind == SETTING
        self._proof = bytearray() if kind == AUTHENTICATION else None
        if self._bytes < 0 or (kind != ROW and length > FRAME_BYTES):
            return TOO_LARGE
        return TOO_MANY if self._frames < 0 or self._settings < 0 else None

    def _judge_proof(self) -> str | None:
        found = _ITERATIONS.search(self._proof or b"")
        self._proof = None
        if found is None:
            return None
        digits = found[1].lstrip(b"0")
        if len(digits) > len(str(SCRAM_ITERATIONS)):
            return TOO_COSTLY
        iterations = int(digits or b"0")
        self._iterations -= iterations
        if self._iterations < 0:
            return TOO_COSTLY
        self._hashing(iterations)
        return None


class GatedTransport:
    """A transport on which each write opens the gate; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, gate: Gate) -> None:
        self.transport = transport
        self.gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Send, and expect an answer."""
        self.gate.asked()
        self.transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        """Send several pieces, and expect an answer."""
        self.gate.asked()
        self.transport.writelines(parts)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        """Hand over to another protocol, behind the same gate."""
        gated = GatedProtocol(protocol, self.gate, framed=True)
        gated.resume(self.transport)
        self.transport.set_protocol(gated)


class GatedProtocol(asyncio.Protocol):
    """Hands on to a protocol what its gate admits, and ends the connection at what it does not."""

    def __init__(self, inner: asyncio.Protocol, gate: Gate, *, framed: bool) -> None:
        """Stand before a protocol.

        Args:
            inner: the protocol.
            gate: of its connection.
            framed: whether it gets PostgreSQL's frames; before those there is one byte about TLS.
        """
        self.inner = inner
        self._gate = gate
        self._framed = framed
        self._transport: asyncio.Transport | None = None

    def resume(self, transport: asyncio.Transport) -> None:
        """Take over a connection that the inner protocol knows already."""
        self._transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.inner.connection_made(GatedTransport(transport, self._gate))  # pyright: ignore[reportArgumentType]

    def data_received(self, data: bytes) -> None:
        if self._gate.admits(data, framed=self._framed):
            try:
                self.inner.data_received(data)
            except Exception:  # noqa: BLE001 - whatever the driver raises at a message out of turn
                self._gate.refuse(NOT_POSTGRESQL)
            else:
                return
        if self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)
        # The driver waits for an answer about TLS only once its attempt to connect has returned: if that attempt has
        # timed out just then, the answer's exception would never be retrieved.
        answer: asyncio.Future[bool] | None = getattr(self.inner, "on_data", None)
        if answer is not None and answer.done() and not answer.cancelled():
            answer.exception()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()
