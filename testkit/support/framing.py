"""PostgreSQL's wire protocol, as far as a proxy needs it to know which statement is on its way. Pure."""

import struct
from dataclasses import dataclass, field

HEADER = 5
SSL_REQUEST = 80877103
CANCEL_REQUEST = 80877102

COMMAND_COMPLETE, READY, BACKEND_KEY = b"C", b"Z", b"K"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; `kind` is empty for the messages before the session begins, which have no type byte."""

    kind: bytes
    body: bytes
    raw: bytes

    @property
    def code(self) -> int:
        """What a message before the session asks for."""
        return int(struct.unpack_from("!i", self.body)[0])


@dataclass(slots=True)
class Splitter:
    """Cuts a stream into frames; what is incomplete waits for the rest."""

    starting: bool
    """The first message of a client has no type byte."""
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete now."""
        self._rest += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
            if self.starting and frame.code not in {SSL_REQUEST, CANCEL_REQUEST}:
                self.starting = False
        return frames

    def _next(self) -> Frame | None:
        header = HEADER - 1 if self.starting else HEADER
        if len(self._rest) < header:
            return None
        length = int(struct.unpack_from("!i", self._rest, header - 4)[0]) + header - 4
        if len(self._rest) < length:
            return None
        raw, self._rest = self._rest[:length], self._rest[length:]
        return Frame(raw[: header - 4], raw[header:], raw)


@dataclass(slots=True)
class Statements:
    """Which SQL a client is about to run: follows Parse, Bind and simple queries."""

    _prepared: dict[bytes, str] = field(default_factory=dict[bytes, str])

    def begun_by(self, frame: Frame) -> str | None:
        """The SQL whose execution this message of the client begins; None for every other message."""
        match frame.kind:
            case b"P":
                name, query, _ = frame.body.split(b"\0", 2)
                self._prepared[name] = query.decode()
                return None
            case b"B":
                _, name, _ = frame.body.split(b"\0", 2)
                return self._prepared.get(name, "")
            case b"Q":
                return frame.body.rstrip(b"\0").decode()
            case _:
                return None


def application_of(frame: Frame) -> str:
    """The application name in a startup message; empty when it has none."""
    texts = [text.decode() for text in frame.body[4:].split(b"\0")]
    return dict(zip(texts[::2], texts[1::2], strict=False)).get("application_name", "")


def key_of(frame: Frame) -> bytes:
    """Whose statement a cancel request means: the body of that session's BackendKeyData."""
    return frame.body[4:]


def rows_of(frame: Frame) -> int:
    """How many rows a CommandComplete speaks of."""
    last = frame.body.rstrip(b"\0").split(b" ")[-1]
    return int(last) if last.isdigit() else 0
