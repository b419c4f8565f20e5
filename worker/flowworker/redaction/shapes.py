"""Secrets known by their shape: URIs, `name=value` pairs, options, headers, password files, XML, keys of clouds.

Each shape is a cheap hint, which nearly every text fails, and a pattern. The patterns are bounded, because texts may
be hostile: none looks further than a line or a few hundred characters from where it begins.
"""

import re
from functools import cache

HIDDEN = "***"

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)?(?![a-z])|pwd|secret|token|credentials?|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|signing[_-]?key|encryption[_-]?key|session[_-]?key|connection[_-]?string|dsn|signature)"
)
"""Words that name a secret."""
_TAIL = r"(?:[_-]?(?:access[_-]?key|key|value|id|string|hash|old|new|\d{1,3}))?"
"""What may follow such a word in a name: `secret_access_key`, `password2`."""
_VALUE = r"""(?:\\+'.{0,500}?\\+'|\\+".{0,500}?\\+"|b?'(?:\\.|[^'\\])*'|b?"(?:\\.|[^"\\])*"|['"][^\n]*|\S+)"""
"""Quoted, quoted once more, or a word; a quote that is not closed hides the rest of the line."""
_PAIR = r"""(?=[ \t]+["']?[\w.-]{1,40}["']?[ \t]*(?:=|:(?!//)))"""
"""The next pair, in front of which a value with spaces ends."""

_NAMED = (
    rf"(?i){_NAME}{_TAIL}(?:[_-](?:base|prod|production|live|staging|dev|test|db|primary|secondary))?$"
    r"|^(?:proxy-)?authorization$|^(?:set-)?cookie$"
)

_BENEATH = (
    rf"""(?ix)
    ( ["']? (?:name|key|id) \\*["']? \s*[=:]\s* \\*["']? [\w.:-]{{0,40}}? {_NAME} [\w.:-]{{0,40}} \\*["']?
      \s{{0,40}} ,? \s{{0,40}} \\*["']? value \\*["']? \s*[=:]\s* ) {_VALUE}
    """
)  # fmt: skip
"""A name and its value as two fields: the environment of a container, `<add key="password" value="…"/>`."""
_EQUALS = rf"""(?ix)
    ( {_NAME}{_TAIL} \\*["']? \s* (?:=>|:=|[=:]|%(?:25)?3[da]) \s* )
    (?: (?=[^\s'"\\b]|b[^'"]) \S+ (?: [ \t][^;\n]{{0,200}}?(?=;) | (?:[ \t]+[^\s=:;,]+){{1,12}}? {_PAIR} )? | {_VALUE} )
    """
_PHRASE = (
    r"""(?ix)
    ( pass(?:word|wd|phrase|code) \\*["']? (?::[ \t]|[ \t]+=[ \t]+) ) (?=[^\s'"\\]) \S+ [^\n]*?
    (?=,|;|\n|$|"""
    + _PAIR
    + ")"
)
"""As people write a password of several words: after a space, to the end of the line or the next pair."""
_ITEM = rf"""(?ix)
    ( {_NAME}{_TAIL} \\*["'] \s*,\s* (?:\[\s*|\(\s*)? )
    (?: b?'(?:\\.|[^'\\])*' | b?"(?:\\.|[^"\\])*" | ['"][^\n]* | [^\s'",\[(]+ )
    """
"""Neighbours in a tuple or a list of arguments: `('password', 'x')`."""
_OPTION = rf"""(?i)((?<!\S)--?(?:[\w-]{{1,30}}-)?{_NAME}{_TAIL}[ \t]+){_VALUE}"""
_XML = rf"""(?ix) ( <(?:[\w.-]{{1,40}}:)?[\w.-]{{0,40}}? {_NAME} [\w.-]{{0,40}} (?:\s[^<>]{{0,200}})? > )
    (?: \s* <!\[CDATA\[ (?s:.{{0,2000}}?) \]\]> | [^<]+ )"""
_HEADER = r"""(?ix)
    ( (?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{0,30}(?:auth|key|token)[\w-]{0,30}) \\*["']? \s*
      (?:[=:,]|%3a) \s* )
    (?: b?'(?:\\.|[^'\\])*' | b?"(?:\\.|[^"\\])*" | [^\s'"][^'"\n]* | ['"][^\n]* )
    """
_SCHEME = r"""(?ix) (?<![\w-]) ( (?:bearer|basic|digest|negotiate|apikey) (?:[ \t]+|%20|\+) )
    (?!authenti|authori[sz]|credential|realm|\*\*\*) [\w.~+/=%-]{8,}"""
_KEYS = r"""(?x) (?<![A-Za-z0-9])
    (?: (?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16} | gh[pousr]_\w{20,} | github_pat_\w{20,} | glpat-[\w-]{16,}
      | xox[a-z]-[\w-]{10,} | AIza[\w-]{30,} | (?:sk|rk|pk)_(?:live|test)_\w{10,} | sk-[\w-]{20,} | npm_\w{30,}
      | hf_\w{20,} | hvs\.[\w-]{20,} | dop_v1_\w{20,} | pypi-[\w-]{30,} | SG\.[\w-]{10,}\.[\w-]{10,} | ya29\.[\w-]{20,}
      | AGE-SECRET-KEY-\w{20,} | eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)? )"""
"""What clouds and forges give out, which stands without a name, and web tokens."""
_KEY_HINTS = ("AKIA", "ASIA", "AROA", "AIDA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox",
              "AIza", "k_live_", "k_test_", "sk-", "npm_", "hf_", "hvs.", "dop_v1_", "pypi-", "SG.", "ya29.", "AGE-",
              "eyJ")  # fmt: skip
_PEM = r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?s:.*?)(-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
_SIGNED = r"(?i)([?&](?:sig|X-Amz-Signature|X-Goog-Signature)=)[^&\s\"']+"

_WORD = re.compile(r"\S+")
_ENCODED = (("://", ":", "@"), ("%3a%2f%2f", "%3a", "%40"), ("%253a%252f%252f", "%253a", "%2540"))
"""The marks of a URI: plain, percent-encoded, twice."""
_LOOSE = (
    r"(?i)((?:postgres(?:ql)?|mysql|mongodb|amqps?|rediss?)(?:\+\w+)?://[^\s:@/]*:)(?:[^\s@]+[ \t]+){1,4}[^\s@]*(?=@)"
)
"""A URI whose password holds spaces; only where its first word has no `@`."""  # fmt: skip

_NAMED_HINTS = (
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "connection",
    "dsn",
    "signature",
    "_key",
    "-key",
    "apikey",
    "accesskey",
    "accountkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "sessionkey",
)
_NAMED_SHAPES = (
    (("<",), _XML),
    (("value",), _BENEATH),
    (("-",), _OPTION),
    (("',", '",', "' ,", '" ,'), _ITEM),
    (("pass",), _PHRASE),
    (("=", ":", "%3", "%253"), _EQUALS),
)
_HEADER_HINTS = ("authorization", "cookie", "x-")
_SCHEME_HINTS = ("bearer", "basic", "digest", "negotiate", "apikey")


def without_secrets(text: str) -> str:
    """The text with everything hidden that has the shape of a secret."""
    if "://" in text or "%3" in text or "%253" in text:
        text = _WORD.sub(_without_password, text)
        text = _compiled(_LOOSE).sub(rf"\1{HIDDEN}", text) if "://" in text else text
    if text.count(":") >= _PGPASS_COLONS:
        text = _WORD.sub(_without_pgpass, text)
    if _holds(text, _KEY_HINTS):
        text = _compiled(_KEYS).sub(HIDDEN, text)
    if "PRIVATE KEY-----" in text:
        text = _compiled(_PEM).sub(rf"\1{HIDDEN}\2", text)
    lowered = text.lower()
    if _holds(lowered, _HEADER_HINTS):
        text = _compiled(_HEADER).sub(rf"\1{HIDDEN}", text)
    if _holds(lowered, _SCHEME_HINTS):
        text = _compiled(_SCHEME).sub(rf"\1{HIDDEN}", text)
    if "sig" in lowered:
        text = _compiled(_SIGNED).sub(rf"\1{HIDDEN}", text)
    return _without_named(text, lowered) if _holds(lowered, _NAMED_HINTS) else text


def _without_named(text: str, lowered: str) -> str:
    for hints, pattern in _NAMED_SHAPES:
        if _holds(lowered, hints):
            text = _compiled(pattern).sub(rf"\1{HIDDEN}", text)
    return text


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when first needed: all together would take a command a few milliseconds that it mostly does not need."""
    return re.compile(pattern)


def _holds(text: str, hints: tuple[str, ...]) -> bool:
    for hint in hints:  # noqa: SIM110 - `any` over a generator takes twice as long, and most texts hold none
        if hint in text:
            return True
    return False


def names_a_secret(name: str) -> bool:
    """Whether what goes by this name, a variable or a field, is a secret."""
    return bool(_compiled(_NAMED).search(name))


def _without_password(word: re.Match[str]) -> str:
    """One word; scanned by hand, because a pattern would take quadratic time on a hostile text."""
    text = word[0]
    lowered = text.replace("A", "a").replace("F", "f")
    for scheme_end, colon, at in _ENCODED:
        begin = lowered.find(scheme_end)
        secret = lowered.find(colon, begin + len(scheme_end)) if begin >= 0 else -1
        end = lowered.rfind(at)
        if secret >= 0 and end > secret:
            named = lowered.find("password=", begin)  # an @ in it is no end of it
            if 0 <= named < end:
                return text[: min(secret + len(colon), named + len("password="))] + HIDDEN
            return text[: secret + len(colon)] + HIDDEN + text[end:]
    return text


_PGPASS_COLONS = 4
_ADDRESS = re.compile(r"[0-9A-Fa-f]{1,4}")
_PORT = re.compile(r"\d{1,5}|\*")


def _without_pgpass(word: re.Match[str]) -> str:
    """`host:port:database:user:password`, a line of a password file."""
    host, *rest = word[0].split(":", _PGPASS_COLONS)
    if len(rest) < _PGPASS_COLONS or not all((host, *rest)):
        return word[0]
    if _ADDRESS.fullmatch(host) or not _PORT.fullmatch(rest[0]):  # an IPv6 address; something else
        return word[0]
    return ":".join((host, *rest[:-1], HIDDEN))
