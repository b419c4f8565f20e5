"""Secrets that this process knows, hidden by value wherever they stand.

Known are the passwords, tokens and keys among the environment's variables, and the password of each connection string
that is used. A value is looked for as it is and in the forms in which it travels.
"""

import json
import logging
import os
import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from flowworker.redaction.keys import without_keys
from flowworker.redaction.uris import has_user_alone
from flowworker.redaction.words import HIDDEN, names_a_secret

logger = logging.getLogger(__name__)

SHORTEST = 4
"""Characters; a shorter secret is a part of too many words."""

MOST_GIVEN = 100
"""Secrets remembered beside those of the environment, which all stay: passwords that were in use, also those before a
rotation. What was used last stays; only a password that a hundred others followed is forgotten, with a warning."""

LONGEST_PART = 1024
"""Characters of a key that are looked at on each side of a known secret in it."""
_OF_A_KEY = re.compile(r"[\w.~+/=-]*")

_NO_SECRET = re.compile(r"(?:FILE|PATH|DIR|SOCK|NAME|TYPE|HOST|PORT|USER|MODE|LIFETIME|TIMEOUT|ENABLED|COUNT|CACHE)$")
"""Ends of variables that say something about a secret and hold none, such as PGPASSFILE."""

_SWITCH = re.compile(r"(?i)true|false|yes|no|on|off|none|null|enabled|disabled|default|required|\d{0,6}")
"""Values that are no secrets, whatever the name: hiding them by value would blot out half of a log."""

_CREDENTIALS = re.compile(r"://[^:/?#\s]*:(.+)@")
_LONE_TOKEN = re.compile(r"://([^:@/?#\s]+)@")
_QUERY_PASSWORD = re.compile(r"[?&](?:ssl)?password=([^&\s]+)")


class Known:
    """The secrets of a process, ready to be looked for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Know what an environment holds."""
        self._lock = threading.Lock()
        self._lasting: dict[str, tuple[str, ...]] = {}
        self._given: dict[str, tuple[str, ...]] = {}
        self._forms: tuple[str, ...] = ()
        self.longest = 0
        self.keep(*(secret for name, value in environment.items() for secret in secrets_in(name, value)))

    def keep(self, *secrets: str) -> None:
        """Know these for as long as the process lives, however many there are."""
        with self._lock:
            for secret in filter(_can_be_found, secrets):
                self._lasting.setdefault(secret, _forms(secret))
            self._arrange()

    def add(self, secret: str) -> None:
        """Know one more; what is too short to be looked for is left out."""
        if secret in self._lasting or not _can_be_found(secret):
            return
        with self._lock:
            is_new = secret not in self._given
            self._given[secret] = self._given.pop(secret, None) or _forms(secret)
            gone = len(self._given) > MOST_GIVEN
            if gone:
                del self._given[next(iter(self._given))]
            if is_new:
                self._arrange()
        if gone:
            logger.warning(
                "more than %d passwords were in use; the oldest is no longer hidden by its value", MOST_GIVEN
            )

    def _arrange(self) -> None:
        forms = {form: None for known in (self._lasting, self._given) for each in known.values() for form in each}
        self._forms = tuple(forms)  # others read it without the lock
        self.longest = max(map(len, forms), default=0)

    @property
    def all(self) -> tuple[str, ...]:
        """What is known."""
        with self._lock:
            return (*self._lasting, *self._given)

    def hide(self, text: str) -> str:
        """The text without them. All are found before one is hidden, as one secret may be a part of another."""
        found = [span for form in self._forms if form in text for span in _spans_of(form, text)]
        return _without_spans(text, list(_widened(sorted(found), text))) if found else text


def _can_be_found(secret: str) -> bool:
    return len(secret) >= SHORTEST and bool(secret.strip("*"))


def _spans_of(form: str, text: str) -> Iterator[tuple[int, int]]:
    """Where a form stands as a word of its own: the password `test` is no part of `latest`."""
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        begins = not (form[0].isalnum() and at > 0 and _is_letter(text[at - 1]))
        ends = not (form[-1].isalnum() and end < len(text) and _is_letter(text[end]))
        if begins and ends:
            yield at, end
        at = text.find(form, end if begins and ends else at + 1)


def _widened(spans: Iterable[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    """The spans, and where one lies in a key that shows by its shape what it is, all of that.

    What is left of such a key would not look like one any more. Takes them in order of their begin.
    """
    done = no_key = 0
    for begin, end in spans:
        if end <= done:
            continue
        if end <= no_key:
            yield begin, end
            continue
        before = _OF_A_KEY.match(text[max(done, begin - LONGEST_PART) : begin][::-1])
        after = _OF_A_KEY.match(text, end, end + LONGEST_PART)
        assert before is not None
        assert after is not None
        whole = begin - before.end(), after.end()
        if whole != (begin, end) and without_keys(word := text[slice(*whole)]) != word:
            done = whole[1]
            yield whole
        else:
            no_key = whole[1]
            yield begin, end


def _is_letter(one: str) -> bool:
    return one.isascii() and one.isalnum()


def _without_spans(text: str, spans: list[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done, (begin, end) = 0, spans[0]
    for start, stop in [*spans[1:], (len(text) + 1, 0)]:
        if start <= end:
            end = max(end, stop)
            continue
        pieces += [text[done:begin], HIDDEN]
        done, begin, end = end, start, stop
    return "".join([*pieces, text[done:]])


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
    if (token := _LONE_TOKEN.search(uri)) and not has_user_alone(uri):
        yield token[1]
        yield unquote(token[1])


def remember(*secrets: str | None) -> None:
    """Hide these by value from now on: passwords, or connection strings for the passwords in them."""
    for secret in secrets:
        for part in () if secret is None else passwords_of(secret) if "://" in secret else (secret,):
            _known().add(part)


def keep(*secrets: str) -> None:
    """Hide what another process hides, whatever is in it."""
    _known().keep(*secrets)


def remember_whole(text: str) -> None:
    """Hide this text wherever it stands: a connection string, which may be so malformed that no password is found."""
    for part in (text, text.strip(), str(Path(text)), *passwords_of(text)):
        _known().add(part)


def remembered() -> tuple[str, ...]:
    """All that is hidden by value, for a child process to do the same."""
    return _known().all


def longest_known() -> int:
    """Characters of the longest form of a secret that is looked for."""
    return _known().longest


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

_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def _forms(secret: str) -> tuple[str, ...]:
    """How a secret may be written: as it is, percent-encoded, escaped for JSON, Python and XML, and in Base64."""
    raw = secret.encode("utf-8", "surrogateescape")
    encoded = quote(raw, safe="")
    texts = [
        secret,
        encoded,
        _ESCAPE.sub(lambda found: found[0].lower(), encoded),
        quote(encoded, safe=""),
        quote_plus(raw),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    ]
    if len(secret) >= _LONG_ENOUGH_FOR_BASE64:
        texts += [b64encode(raw).decode().rstrip("="), urlsafe_b64encode(raw).decode().rstrip("=")]
    return tuple(dict.fromkeys(texts))


_LONG_ENOUGH_FOR_BASE64 = 6
