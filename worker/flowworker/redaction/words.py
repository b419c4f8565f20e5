"""What all patterns of secrets are made of, and the names of variables and fields whose value is one."""

import re

HIDDEN = "***"

NAME = (
    r"(?:pass(?:words?|wd|wort|phrases?|codes?|key)|(?<!by)(?<!com)pass(?![a-z])|kennwort|pwd|(?<![a-z])p(?:s?w|swd|word)(?![a-z])"
    r"|secrets?|token|credentials?|connection[ _-]?string|dsn|signature|(?<![a-z])jwt|_auth(?:[ _-]?keys?)?(?![a-z])"
    r"|(?:j|php)?sessi(?:d|onid)|session[_-]?cookie|connect\.sid"
    r"|(?:api|access|account|private|signing|encryption|session|client|master|shared|storage|license|admin|auth|deploy)"
    r"[ _-]?keys?(?![a-z]))"
)
"""Words that name a secret."""

TAIL = (
    r"(?:[_-]?(?:access[_-]?key|key|value|id|string|hash|digest|old|new|current|plain|text|raw|b64|base64|enc|encrypted"
    r"|\d{1,3})){0,2}"
)
"""What may follow such a word in a name: `secret_access_key`, `password2`."""

NAME_BEGINS = ("pass", "kennwort", "pw", "psw", "pword", "secret", "token", "credential", "connection", "dsn",
               "signature", "jwt", "_auth", "jsessi", "phpsessi", "sess", "connect.sid")  # fmt: skip
KEY_BEGINS = ("api", "access", "account", "private", "signing", "encryption", "session", "client", "master", "shared",
              "storage", "license", "admin", "auth", "deploy")  # fmt: skip
"""How such names begin, in small letters: all that hold no `key`, and those that do."""

STRING = (
    r"""(?:"{3}(?s:.{0,4000}?)"{3}|'{3}(?s:.{0,4000}?)'{3}|\\{1,8}+'.{0,4000}?\\{1,8}+'|\\{1,8}+".{0,4000}?\\{1,8}+\""""
    r"""|(?:[bfnrux]|br|rb|u&|e)?(?:'(?s:\\.|''|[^'\\])*+'|"(?s:\\.|""|[^"\\])*+"))"""
)
"""Quoted, quoted once more, with the doubled quotes of SQL."""

OPEN_STRING = r"""\\{0,8}+['"][^\n]*+"""
"""A quote that is not closed hides the rest of the line."""

GROUP = r"(?:\{[^{}]{1,4000}\}|\[[^\[\]]{1,4000}\]|`[^`\n]{1,4000}`|\u201c[^\u201d\n]{1,4000}\u201d)\S*+"
"""Several values, or one with spaces."""

VALUE = rf"(?:{STRING}|{OPEN_STRING}|{GROUP}|\S+)"
"""Quoted, grouped, or a word."""

_PLACE = r"(?:[_-](?:base|prod|production|live|staging|dev|test|db|primary|secondary))?"
_NAMED = re.compile(rf"(?i){NAME}{TAIL}{_PLACE}$|^(?:proxy-)?authorization$|^(?:set-)?cookie$")


def names_a_secret(name: str) -> bool:
    """Whether what goes by this name, a variable or a field, is a secret."""
    return bool(_NAMED.search(name))
