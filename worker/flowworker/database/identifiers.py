"""The one place where a name becomes part of a statement's text.

Values are always bound. What cannot be bound (the tables behind a queue, a channel for LISTEN) passes through here.
"""

import re
import string

from flowworker.errors import UsageError

MAX_IDENTIFIER_BYTES = 63
FORBIDDEN_IN_QUEUE_NAMES = ("$", ";", "--", "'")
"""What pgmq itself refuses in the name of a queue."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes on the command line that are no text."""


def quote(name: str) -> str:
    """A name as a quoted SQL identifier.

    Raises:
        UsageError: PostgreSQL could not hold this name, or would silently cut it.
    """
    size = len(name.encode(errors="surrogatepass"))
    if not name or "\0" in name or size > MAX_IDENTIFIER_BYTES or _SURROGATE.search(name):
        raise UsageError(
            f"{name!r} is no usable name in PostgreSQL: it takes 1 to {MAX_IDENTIFIER_BYTES} bytes of UTF-8 "
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


def folded(queue_name: str) -> str:
    """What the names of two queues have in common when they share one table; see `_table_name`."""
    return queue_name.translate(_LOWER_ASCII)


def _table_name(prefix: str, queue_name: str) -> str:
    """Pgmq's own rule: lower case, and some characters refused.

    Letters outside of ASCII stay: which of them have a small form is the database's locale's affair. The names of flows
    and queues in code have no such capitals; any other name is folded by the database first.
    """
    if any(mark in queue_name for mark in FORBIDDEN_IN_QUEUE_NAMES):
        raise UsageError(f"pgmq refuses the queue name {queue_name!r}: it must not contain $, ;, -- or '")
    return folded(f"{prefix}_{queue_name}")


_LOWER_ASCII = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
