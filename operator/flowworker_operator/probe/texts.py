"""Words of others, made fit to be shown: short, on one line, without secrets and without control characters. Pure."""

from flowworker.redaction import redact
from flowworker_operator.domain.words import printable

WINDOW = 4096
"""Characters that are looked at, blanks included: the words of a server may be of any length."""


def shown(text: str, *, limit: int) -> str:
    """A text as it may stand in a status, an event or a log line.

    Args:
        text: anything, of any length.
        limit: most characters of the answer.
    """
    words = redact(text, limit=WINDOW).split()
    return redact(printable(" ".join(words)), limit=limit)
