"""Passwords and tokens in URIs, however they were encoded, and in the lines of password files."""

import re

from flowworker.redaction.places import Shape, Shapes
from flowworker.redaction.words import HIDDEN

_WORD = re.compile(r"\S+")
_MARKS = (("://", ":", "@"), ("%3a%2f%2f", "%3a", "%40"), ("%253a%252f%252f", "%253a", "%2540"))
"""The marks of a URI (behind its scheme, before its password, behind it): plain, percent-encoded, twice."""

_LONE = re.compile(
    r"(?i)(://)[^\s/?#@:'\"<>]++@"
    r"|(%3a%2f%2f)(?:(?!%(?:2f|3f|23|40|3a))[^\s/?#@:'\"<>])++%40"
    r"|(%253a%252f%252f)(?:(?!%25(?:2f|3f|23|40|3a))[^\s/?#@:'\"<>])++%2540"
)
"""One word before the host, such as a token."""
_NAMES_USERS = re.compile(
    r"(?i)(?:postgres(?:ql)?|mysql|mariadb|ssh|sftp|rsync|ldaps?|smtps?|imaps?|xmpp)(?:\+[\w.-]{1,20})?$"
)
"""Schemes in whose URIs such a word is a user."""
_LONGEST_SCHEME = 40
_NO_PASSWORDS = frozenset({"", "x-oauth-basic"})
"""Beside a token, which then stands in the place of the user."""

_LOOSE = (
    r"(?i)((?:postgres(?:ql)?|mysql|mariadb|mongodb|amqps?|rediss?)(?:\+\w{1,40})?://[^\s:@/]{0,200}+:)"
    r"(?:[^\s@]{1,400}+[ \t]{1,40}+){1,4}[^\s@]{0,400}+(?=@)"
)
"""A URI whose password holds spaces; only where its first word has no `@`."""
_ORACLE = r"(?i)((?:jdbc:oracle:\w{1,10}:|sqlplus[ \t]++)[\w.$#]{1,60}+/)[^\s@]{1,400}+(?=@)"
_HOOK = (
    r"(?i)((?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/"
    r"|webhook\.office\.com/webhook\w{0,10}/|api\.telegram\.org/(?:file/)?bot))[^\s'\"<>)]{8,}+"
)
"""Addresses that are secrets themselves."""
_SIGNED = (
    r"(?i)((?:(?<=[?&;])|(?<=%3f)|(?<=%26))(?:sig|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature)(?:=|%3d)"
    r"|(?<![\w.-])sig=(?=[\w%+/-]{20}))[^&\s\"';]++"
)
_CODE = r"(?i)((?<=[?&])code=)[\w.~%+/-]{16,}+(?=&state=|\s|['\"]|$)"
SHAPES = Shapes(
    Shape(begins=("postgres", "mysql", "mariadb", "mongodb", "amqp", "redis"), pattern=_LOOSE, hints=("://",)),
    Shape(begins=("hooks.slack", "discord", "webhook.office", "api.telegram"), pattern=_HOOK),
    Shape(begins=("jdbc:oracle:", "sqlplus"), pattern=_ORACLE, hints=("@",)),
    Shape(begins=("code=",), pattern=_CODE),
    Shape(begins=("sig=", "sig%3d", "x-amz-s", "x-goog-s"), pattern=_SIGNED),
)

PGPASS_COLONS = 4
_ADDRESS = re.compile(r"[0-9A-Fa-f]{1,4}")
_PORT = re.compile(r"\d{1,5}|\*")


def without_uris(text: str) -> str:
    """The text without the passwords of URIs and of lines of password files."""
    if "://" in text or "%3" in text or "%253" in text:
        text = _WORD.sub(_without_password, text)
        text = _LONE.sub(_without_lone, text)
    if text.count(":") >= PGPASS_COLONS:
        text = _WORD.sub(_without_pgpass, text)
    return SHAPES.hide_in(text)


def _without_password(word: re.Match[str]) -> str:
    """One word; scanned by hand, because a pattern would take quadratic time on a hostile text."""
    text = word[0]
    lowered = text.replace("A", "a").replace("F", "f")
    for scheme_end, colon, at in _MARKS:
        begin = lowered.find(scheme_end)
        secret = lowered.find(colon, begin + len(scheme_end)) if begin >= 0 else -1
        end = lowered.rfind(at)
        if secret >= 0 and end > secret:
            named = lowered.find("password=", begin)  # an @ in it is no end of it
            if 0 <= named < end:
                return text[: min(secret + len(colon), named + len("password="))] + HIDDEN
            if text[secret + len(colon) : end] in _NO_PASSWORDS and not has_user_alone(text[:begin]):
                return text[: begin + len(scheme_end)] + HIDDEN + text[end:]
            return text[: secret + len(colon)] + HIDDEN + text[end:]
    return text


def _without_lone(found: re.Match[str]) -> str:
    at, (begin, end) = found.start(), _ends_of(found)
    if has_user_alone(found.string[max(0, at - _LONGEST_SCHEME) : at]):
        return found[0]
    return begin + HIDDEN + end


def has_user_alone(scheme: str) -> bool:
    """Whether a lone word before the host is a user's name in URIs of this scheme, not a secret."""
    return bool(_NAMES_USERS.search(scheme.partition("://")[0]))


def _ends_of(found: re.Match[str]) -> tuple[str, str]:
    begin = found[1] or found[2] or found[3]
    return begin, found[0][-len(_MARKS[(found.lastindex or 1) - 1][2]) :]


def _without_pgpass(word: re.Match[str]) -> str:
    """`host:port:database:user:password`, a line of a password file."""
    host, *rest = word[0].split(":", PGPASS_COLONS)
    if len(rest) < PGPASS_COLONS or not all((host, *rest)):
        return word[0]
    if _ADDRESS.fullmatch(host) or not _PORT.fullmatch(rest[0]):  # an IPv6 address; something else
        return word[0]
    return ":".join((host, *rest[:-1], HIDDEN))
