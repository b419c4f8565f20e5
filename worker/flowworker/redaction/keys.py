"""Keys that stand without a name: what clouds and forges give out, web tokens, private keys, hashes of passwords."""

import re

from flowworker.redaction.places import Shape, Shapes
from flowworker.redaction.words import HIDDEN

_ISSUED = r"""(?x) (?<![A-Za-z0-9])
    (?: (?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])
          (?:[\s:,;|'"/=]{1,6}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=]))?
      | gh[pousr]_\w{20,}+ | github_pat_\w{20,}+
      | (?:gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent|oas|ffct)-|GR1348941)[\w-]{16,}+
      | xox[a-z]-[\w-]{10,}+ | xapp-[\w-]{10,}+ | AIza[\w-]{30,}+ | GOCSPX-[\w-]{20,}+ | ya29\.[\w-]{20,}+
      | (?:sk|rk|pk)_(?:live|test)_\w{10,}+ | whsec_[\w+/=]{20,}+ | sk-[\w-]{20,}+ | npm_\w{30,}+ | hf_\w{20,}+
      | hv[sbr]\.[\w-]{20,}+ | do[por]_v1_\w{20,}+ | pypi-[\w-]{30,}+ | SG\.[\w-]{10,100}+\.[\w-]{10,}+
      | dckr_(?:pat|oat)_[\w-]{20,}+ | shp(?:at|ss|ca|pa)_\w{20,}+ | dapi[0-9a-f]{32}(?:-\d)? | ATATT3x[\w=-]{20,}+
      | gl(?:sa|c)_[\w=+/-]{20,}+ | NRAK-\w{20,}+ | sq0(?:atp|csp)-[\w-]{20,}+ | sb[ps]_\w{20,}+ | sb_secret_[\w-]{20,}+
      | pscale_(?:tkn|pw|oauth)_[\w.-]{20,}+ | npg_\w{10,}+ | AVNS_[\w-]{10,}+ | tskey-[\w-]{10,}+ | lin_api_\w{20,}+
      | ntn_\w{30,}+ | md5[0-9a-f]{32}(?![0-9a-z]) | key-[0-9a-f]{32} | SK[0-9a-f]{32} | AGE-SECRET-KEY-\w{20,}+ )"""
_ISSUED_BEGINS = (
    "akia", "asia", "aroa", "aida", "abia", "acca", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glimt-", "glagent-", "gloas-", "glffct-", "glsa_",
    "glc_", "gr1348941", "xox", "xapp-", "aiza", "gocspx-", "ya29.", "sk_", "rk_", "pk_", "whsec_", "sk-", "npm_",
    "hf_", "hvs.", "hvb.", "hvr.", "dop_", "doo_", "dor_", "pypi-", "sg.", "dckr_", "shp", "dapi", "atatt3x", "nrak-",
    "sq0", "sbp_", "sbs_", "sb_secret_", "pscale_", "npg_", "avns_", "tskey-", "lin_api_", "ntn_", "md5", "key-", "sk",
    "age-secret-key-",
)  # fmt: skip
_BOT = r"(?<=:)AA[\w-]{33}(?![\w-])"
"""Behind the number of a bot."""
_AZURE = r"(?<=[\w~.-]{3}\d)Q~[\w~.-]{31,34}"
"""Of an application in Azure; four characters of it stay."""

_JWT = r"(?<![A-Za-z0-9])eyJ[\w-]{8,}+(?:\.[\w-]*+){0,4}"
_PARTS = re.compile(r"eyJ[\w-]*+\.[\w-]{8}")

_PEM = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----)"
    r"(?s:.*?)(-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
_PEM_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\ \t\r\n"
_PEM_LINE = 20
"""Letters; no word of a sentence has as many."""
_PUTTY = r"(?i)(Private-Lines: \d{1,4}\s{1,4})(?:[A-Za-z0-9+/=]{1,100}+(?:\s|\\[rn]){0,4}+)++"
_WEB_KEY = r"""(["'](?:d|p|q|dp|dq|qi|k)\\{0,8}+["']\s*+:\s*+\\{0,8}+["'])[\w-]{16,}+"""
_STORED_LOGIN = r"""(?i)((?<=["'])auth\\{0,8}+["']\s*+:\s*+\\{0,8}+["'])[A-Za-z0-9+/=]{8,}+"""
"""Of the configuration of a container engine: user and password in Base64."""
_HASH = (
    r"(?<![\w$])(?:\$(?:2[abxy]?|1|5|6|7|y|apr1|md5|sha1|argon2\w{0,2}|scrypt|pbkdf2[\w-]{0,10})\$"
    r"(?:[\w./$=+-]|,(?=\w=)){16,}+"
    r"|SCRAM-SHA-\d{1,3}\$\d{1,8}:[A-Za-z0-9+/=]++\$[A-Za-z0-9+/=]++:[A-Za-z0-9+/=]++"
    r"|pbkdf2_\w{1,10}\$(?:[\w./$=+-]|,(?=\w=)){16,}+)"
)


def _all(_: re.Match[str]) -> str:
    return HIDDEN


def _without_web_token(found: re.Match[str]) -> str:
    return HIDDEN if _PARTS.match(found[0]) else found[0]


SHAPES = Shapes(
    Shape(begins=_ISSUED_BEGINS, pattern=_ISSUED, replaced_by=_all),
    Shape(begins=("aa",), pattern=_BOT, hints=(":aa",), replaced_by=_all),
    Shape(begins=("q~",), pattern=_AZURE, replaced_by=_all),
    Shape(begins=("eyj",), pattern=_JWT, replaced_by=_without_web_token),
    Shape(begins=("private-lines: ",), pattern=_PUTTY),
    Shape(begins=("'", '"'), pattern=_WEB_KEY, hints=("kty",)),
    Shape(begins=("auth",), pattern=_STORED_LOGIN),
    Shape(begins=("$", "scram-sha-", "pbkdf2_"), pattern=_HASH, hints=("$",), replaced_by=_all),
)


def without_keys(text: str) -> str:
    """The text without the keys in it."""
    if "PRIVATE KEY" in text:
        text = _without_beheaded(_PEM.sub(rf"\1{HIDDEN}\2", text))
    return SHAPES.hide_in(text)


def _without_beheaded(text: str) -> str:
    """A text without a key whose first line was cut off."""
    end = _PEM_END.search(text)
    if end is None or text[: end.start()].endswith(HIDDEN):
        return text
    kept = text[: end.start()].rstrip(_PEM_LETTERS)
    if max(map(len, text[len(kept) : end.start()].split()), default=0) < _PEM_LINE:
        return text
    return f"{kept} {HIDDEN}"[not kept :] + text[end.start() :]
