"""Hiding secrets in text that leaves the process: logs, reports, error messages.

Drivers, handlers and people put connection strings into error texts. When in doubt this hides too much: inside one
word, everything between the user's name and the last `@` may belong to a password that nobody encoded.
"""

import re

HIDDEN = "***"

_HINTS = ("passw", "passphrase", "pwd", "secret", "token", "key")
"""Asked before the pattern, which is thirty times slower than these."""
_WORD = re.compile(r"\S+")
_NAMED_SECRET = re.compile(
    r"""(?ix)
    ( (?:password|passwd|passphrase|pwd|secret|token|api_?key) ["']? \s* [=:] \s* )
    (?: '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" | \S+ )
    """
)


def redact(text: str, *, limit: int | None = None) -> str:
    """The text with passwords in URIs, DSNs and `name=value` pairs replaced by `***`.

    Args:
        text: anything; stays as it is when it holds nothing that looks like a secret.
        limit: most characters of the answer; a longer one ends with `…`. Cut after hiding, so that no half of a
            password survives.
    """
    hidden = _WORD.sub(_without_password, text) if "://" in text else text
    lowered = hidden.lower()
    if any(hint in lowered for hint in _HINTS):
        hidden = _NAMED_SECRET.sub(rf"\1{HIDDEN}", hidden)
    return hidden if limit is None or len(hidden) <= limit else hidden[: max(limit - 1, 0)] + "…"[:limit]


def _without_password(word: re.Match[str]) -> str:
    """One word; scanned by hand, because a pattern would take quadratic time on a hostile text."""
    scheme, separator, rest = word[0].partition("://")
    user, colon, secret = rest.partition(":")
    _, at, place = secret.rpartition("@")
    return f"{scheme}{separator}{user}{colon}{HIDDEN}{at}{place}" if separator and colon and at else word[0]
