"""Words of others, made fit to be shown: short, on one line, without secrets and without control characters. Pure."""

from flowworker.redaction import HIDDEN, redact
from flowworker_operator.domain.words import printable

WINDOW = 4096
"""Characters that are looked at: the words of a server may be of any length."""


def shown(text: str, *, limit: int) -> str:
    """A text as it may stand in a status, an event or a log line.

    Args:
        text: anything, of any length.
        limit: most characters of the answer.
    """
    window = text[:WINDOW]
    cut = len(text) > WINDOW
    found = redact(printable(" ".join(window.split())), limit=limit)
    if not cut or len(found) == limit:
        return found
    # What was hidden made room for the end of the window, where a secret may be cut in two.
    return found[: found.index(HIDDEN) + len(HIDDEN)] + "…" if HIDDEN in found else found + "…"
