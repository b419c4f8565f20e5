"""Secrets that this process knows, hidden by value wherever they stand.

Known are the passwords, tokens and keys among the environment's variables, and the password of each connection string
that is used. A value is looked for as it is and in the forms in which it travels.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from flowworker.redaction.shapes import HIDDEN, names_a_secret

SHORTEST = 4
"""Characters; a shorter secret is a part of too many words."""

MOST = 64
"""Secrets remembered; each costs every text a search. The oldest go first."""

_NO_SECRET = re.compile(r"(?:FILE|PATH|DIR|SOCK|NAME|TYPE|HOST|PORT|USER|MODE|LIFETIME|TIMEOUT|ENABLED|COUNT|CACHE)$")
"""Ends of variables that say something about a secret and hold none, such as PGPASSFILE."""

_SWITCH = re.compile(r"(?i)true|false|yes|no|on|off|none|null|enabled|disabled|default|required|\d{0,6}")
"""Values that are no secrets, whatever the name: hiding them by value would blot out half of a log."""

_CREDENTIALS = re.compile(r"://[^:/?#\s]*:(.+)@")
_QUERY_PASSWORD = re.compile(r"[?&](?:ssl)?password=([^&\s]+)")


class Known:
    """The secrets of a process, ready to be looked for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Know what an environment holds."""
        self._lock = threading.Lock()
        self._forms: dict[str, tuple[tuple[str, re.Pattern[str]], ...]] = {}
        for name, value in environment.items():
            for secret in secrets_in(name, value):
                self.add(secret)

    def add(self, secret: str) -> None:
        """Know one more; what is too short to be looked for is left out."""
        with self._lock:
            if len(secret) < SHORTEST or secret in self._forms or not secret.strip("*"):
                return
            forms = dict(self._forms)
            if len(forms) >= MOST:
                del forms[next(iter(forms))]
            forms[secret] = tuple((form, _pattern(form)) for form in _forms(secret))
            self._forms = forms  # others read it without the lock

    @property
    def all(self) -> tuple[str, ...]:
        """What is known."""
        return tuple(self._forms)

    def hide(self, text: str) -> str:
        """The text without them."""
        for forms in self._forms.values():
            for form, pattern in forms:
                if form in text:
                    text = pattern.sub(HIDDEN, text)
        return text


def secrets_in(name: str, value: str) -> Iterator[str]:
    """What a variable holds that must not be shown."""
    if "://" in value:
        yield from passwords_of(value)
    elif _is_secret(name, value.strip()):
        yield value.strip()


def _is_secret(name: str, value: str) -> bool:
    named = names_a_secret(name) and name not in {"PWD", "OLDPWD"} and not _NO_SECRET.search(name.upper())
    return named and not _SWITCH.fullmatch(value)


def passwords_of(uri: str) -> Iterator[str]:
    """The passwords of a connection string, as written and decoded; also of one that a strict parser refuses."""
    for pattern in (_CREDENTIALS, _QUERY_PASSWORD):
        if found := pattern.search(uri):
            yield found[1]
            yield unquote(found[1])


def remember(*secrets: str | None) -> None:
    """Hide these by value from now on: passwords, or connection strings for the passwords in them."""
    for secret in secrets:
        for part in () if secret is None else passwords_of(secret) if "://" in secret else (secret,):
            _known().add(part)


def remember_whole(text: str) -> None:
    """Hide this text wherever it stands: a connection string, which may be so malformed that no password is found."""
    _known().add(text)
    _known().add(text.strip())
    _known().add(str(Path(text)))
    for password in passwords_of(text):
        _known().add(password)


def remembered() -> tuple[str, ...]:
    """All that is hidden by value, for a child process to do the same."""
    return _known().all


def without_known(text: str) -> str:
    """The text without the secrets that this process knows."""
    return _known().hide(text)


def _known() -> Known:
    """Made when first needed, so that a program may complete its environment before."""
    global _knowledge  # what a process knows is one for the process
    if _knowledge is None:
        _knowledge = Known(os.environ)
    return _knowledge


_knowledge: Known | None = None


def _forms(secret: str) -> list[str]:
    """How a secret may be written: as it is, percent-encoded once or twice, and as JSON and Python escape it."""
    encoded = quote(secret, safe="")
    forms = [secret, encoded, quote(encoded, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]]
    return list(dict.fromkeys(forms))


def _pattern(form: str) -> re.Pattern[str]:
    """A form as a word of its own: the password `test` is no part of `latest`."""
    before = r"(?<![A-Za-z0-9])" if form[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if form[-1].isalnum() else ""
    return re.compile(before + re.escape(form) + after)
