"""The one place where a name becomes part of a statement's text.

Values are always bound. What cannot be bound (the tables behind a queue, a channel for LISTEN) passes through here.
"""

from flowworker.errors import UsageError

MAX_IDENTIFIER_BYTES = 63
FORBIDDEN_IN_QUEUE_NAMES = ("$", ";", "--", "'")
"""What pgmq itself refuses in the name of a queue."""


def quote(name: str) -> str:
    """A name as a quoted SQL identifier.

    Raises:
        UsageError: PostgreSQL could not hold this name, or would silently cut it.
    """
    size = len(name.encode())
    if not name or "\0" in name or size > MAX_IDENTIFIER_BYTES:
        raise UsageError(
            f"{name!r} is no usable name in PostgreSQL: it takes 1 to {MAX_IDENTIFIER_BYTES} bytes "
            f"without a zero character, this one has {size}"
        )
    return '"' + name.replace('"', '""') + '"'


def queue_table(queue_name: str) -> str:
    """The quoted table that holds a queue's messages."""
    return f"pgmq.{quote(_table_name('q', queue_name))}"


def archive_table(queue_name: str) -> str:
    """The quoted table that holds a queue's archived messages."""
    return f"pgmq.{quote(_table_name('a', queue_name))}"


def insert_channel(queue_name: str) -> str:
    """The channel on which pgmq announces new messages; quote it for LISTEN, bind it for pg_notify."""
    return f"pgmq.{_table_name('q', queue_name)}.INSERT"


def _table_name(prefix: str, queue_name: str) -> str:
    """Pgmq's own rule: lower case, and some characters refused."""
    if any(mark in queue_name for mark in FORBIDDEN_IN_QUEUE_NAMES):
        raise UsageError(f"pgmq refuses the queue name {queue_name!r}: it must not contain $, ;, -- or '")
    return f"{prefix}_{queue_name}".lower()
