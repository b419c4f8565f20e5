"""A pgmq queue in memory."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowworker.database.headers import KEY, our_headers
from flowworker.testing import memory_json

ROUNDING = 1e-6
"""Seconds by which a clock that was moved to the very moment of visibility may fall short of it."""


@dataclass(slots=True, kw_only=True)
class Message:
    """One message. Times are the clock's seconds."""

    msg_id: int
    payload: bytes
    headers: bytes | None
    enqueued_at: float
    visible_at: float
    read_count: int = 0
    holder: UUID | None = None
    """Who took the lease on a job; None once it is free again."""
    claimed_at: float = 0.0

    def note(self, ours: dict[str, object]) -> None:
        """Add to our corner of the headers, and leave the rest alone."""
        found: Any = None if self.headers is None else memory_json.loads(self.headers)
        rest: dict[str, Any] = found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        self.headers = memory_json.dumps({**rest, KEY: {**our_headers(self.headers), **ours}})


@dataclass(slots=True, kw_only=True)
class MessageQueue:
    """Messages and archive of one queue."""

    messages: dict[int, Message] = field(default_factory=dict[int, Message])
    archive: dict[int, Message] = field(default_factory=dict[int, Message])
    _last_id: int = 0

    def send(self, payload: bytes, *, now: float, delay: float = 0.0, headers: bytes | None = None) -> int:
        """Add a message that becomes visible after `delay` seconds; returns its id."""
        self._last_id += 1
        self.messages[self._last_id] = Message(
            msg_id=self._last_id, payload=payload, headers=headers, enqueued_at=now, visible_at=now + delay
        )
        return self._last_id

    def read(
        self, limit: int, *, now: float, visibility: float, may_take: Callable[[Message], bool] = lambda _: True
    ) -> list[Message]:
        """Hide and return at most `limit` visible messages that may be taken, lowest id first."""
        visible = [
            message for message in self.messages.values() if message.visible_at <= now + ROUNDING and may_take(message)
        ]
        chosen = sorted(visible, key=lambda message: message.msg_id)[:limit]
        for message in chosen:
            message.read_count += 1
            message.visible_at = now + visibility
        return chosen

    def fenced(self, msg_id: int, read_count: int) -> Message | None:
        """The message, unless it is gone or was read again."""
        message = self.messages.get(msg_id)
        return message if message is not None and message.read_count == read_count else None

    def move_to_archive(self, msg_ids: Iterable[int]) -> int:
        """Archive messages; returns how many were there."""
        moved = {msg_id: self.messages.pop(msg_id) for msg_id in msg_ids if msg_id in self.messages}
        self.archive.update(moved)
        return len(moved)

    def hide(self, msg_id: int, *, until: float) -> None:
        """Set when a message becomes visible; one that is gone does no harm."""
        if msg_id in self.messages:
            self.messages[msg_id].visible_at = until

    def next_due(self, *, now: float) -> float | None:
        """Seconds until the earliest invisible message becomes visible."""
        future = [message.visible_at - now for message in self.messages.values() if message.visible_at > now + ROUNDING]
        return min(future, default=None)
