"""What all patterns of secrets are made of, and the names of variables and fields whose value is one."""

import re

HIDDEN = "***"

_ELSEWHERE = (
    r"(?:kennwort|mot[ _]de[ _]passe|contrase[\u00f1n]a|senha|wachtwoord|has[\u0142l]o(?![a-z])|l[\u00f6o]senord"
    r"|heslo(?![a-z])|[\u015fs]ifre(?![a-z])|\u043f\u0430\u0440\u043e\u043b\u044c|\u5bc6[\u7801\u78bc]|\u53e3\u4ee4"
    r"|\u30d1\u30b9\u30ef\u30fc\u30c9|\ube44\ubc00\ubc88\ud638)"
)
"""A password in other languages, without letters that keyboards lack, too."""

NAME = (
    r"(?:pass(?:words?|wd|wrd|wort|phrases?|codes?|key)|(?<!by)(?<!com)pass(?![a-z])"
    r"|pwd|(?<![a-z])p(?:s?w|swd|word|sk)(?![a-z])|(?:bind|root)pw(?![a-z])"
    rf"|{_ELSEWHERE}"
    r"|secrets?|token|credentials?|(?<![a-z])creds?(?![a-z])|connection[ _-]?string|dsn|signature|(?<![a-z])jwt"
    r"|_auth(?:[ _-]?keys?)?(?![a-z])"
    r"|(?:j|php)?sessi(?:d|onid)|session[_-]?cookie|connect\.sid"
    r"|(?:api|access|account|private|signing|encryption|session|client|master|shared|storage|license|admin|auth|deploy"
    r"|fernet|subscription|service[ _-]?role|(?<![a-z])app(?=[_-]))"
    r"[ _-]?keys?(?![a-z]))"
)
"""Words that name a secret."""

TAIL = (
    r"(?:[_-]?(?:access[_-]?key|key|value|id|string|hash|digest|old|new|current|plain|text|raw|b64|base64|base|data|enc"
    r"|encrypted|\d{1,3})){0,2}"
)
"""What may follow such a word in a name: `secret_access_key`, `password2`."""

NAME_BEGINS = (
    "pass", "kennwort", "pw", "psw", "psk", "pword", "bindpw", "rootpw", "mot de passe", "mot_de_passe", "contrase",
    "senha", "wachtwoord", "has\u0142o", "haslo", "l\u00f6senord", "losenord", "heslo", "\u015fifre", "sifre",
    "\u043f\u0430\u0440\u043e\u043b\u044c", "\u5bc6\u7801", "\u5bc6\u78bc", "\u53e3\u4ee4",
    "\u30d1\u30b9\u30ef\u30fc\u30c9", "\ube44\ubc00\ubc88\ud638", "secret", "token", "cred", "connection", "dsn",
    "signature", "jwt", "_auth", "jsessi", "phpsessi", "sess", "connect.sid",
)  # fmt: skip
KEY_BEGINS = ("api", "access", "account", "private", "signing", "encryption", "session", "client", "master", "shared",
              "storage", "license", "admin", "auth", "deploy", "fernet", "subscription", "service", "app")  # fmt: skip
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
