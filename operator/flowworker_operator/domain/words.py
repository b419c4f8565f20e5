"""Words of others, made fit for a status or an event. Pure."""

import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Categories of Unicode that draw nothing: control characters and escape, marks that turn the direction of text,
surrogates, private and unassigned characters."""


def printable(text: str) -> str:
    """A text without what draws nothing and could move a terminal or hide a part of it; lines stay lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one for one in text if one == "\n" or unicodedata.category(one) not in _INVISIBLE)
