"""Words of others, made fit to be shown: short, on one line, without secrets and without what draws nothing. Pure."""

import unicodedata

from flowworker.redaction import redact

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Categories of Unicode that draw nothing: control characters and escape, marks that turn the direction of text,
surrogates, private and unassigned characters."""

WINDOW = 4096
"""Characters that are looked at, blanks included: the words of a server may be of any length."""


def printable(text: str) -> str:
    """A text without what draws nothing and could move a terminal or hide a part of it; lines stay lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one for one in text if one == "\n" or unicodedata.category(one) not in _INVISIBLE)


def shown(text: str, *, limit: int) -> str:
    """A text as it may stand in a status, an event or a log line.

    Args:
        text: anything, of any length.
        limit: most characters of the answer.
    """
    words = redact(text, limit=WINDOW).split()
    return redact(printable(" ".join(words)), limit=limit)
