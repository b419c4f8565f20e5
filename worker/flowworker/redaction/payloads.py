"""Values of payloads that other libraries quote in their messages: pydantic what it refuses, PostgreSQL whole rows."""

import re

from flowworker.redaction.words import HIDDEN

_QUOTED = (
    ("input_value=", re.compile(r"(input_value=)(?:[^\n]*(?=, input_type=)|(?s:.{0,1000}?)(?=, input_type=)|[^\n]*)")),
    ("Failing row contains", re.compile(r"(Failing row contains \()(?s:.*(?=\))|.+)")),
    ("Key (", re.compile(r"(Key \([^()\n]{0,200}+\)=\()(?:(?s:.{0,3000})(?=\) (?:already exists|conflicts with"
                         r"|is (?:not present|still|duplic)))|[^\n]*(?=\))|(?s:.*))")),
    ("query argument", re.compile(r"(invalid input for query argument \$\d+(?: in element #\d+ of executemany\(\) "
                                  r"sequence)?: )(?!\*\*\*$)(?s:.+)")),
    ("nvalid input syntax", re.compile(r"(nvalid input syntax for (?:type )?[\w ]{1,40}: )\"(?s:.*)\"")),
    ("out of range", re.compile(r"(?:(?<=value )|(?<=out of range: ))()\"[^\n]*\"")),
    ("JSON data, line", re.compile(r"(JSON data, line \d+: )[^\n]*")),
)  # fmt: skip
"""A text that must be there, and what is hidden behind its first group."""


_TOKEN = re.compile(r"(Token )\"(?:[^\"\n]|\"(?! is invalid))*+(\" is invalid)?")
"""Of PostgreSQL's words about JSON. Others have a token with another end, which is taken with it and stays."""


def without_payloads(text: str) -> str:
    """The text without the values that messages of pydantic and PostgreSQL quote."""
    for hint, pattern in _QUOTED:
        if hint in text:
            text = pattern.sub(rf"\1{HIDDEN}", text)
    return _TOKEN.sub(_without_token, text) if '" is invalid' in text else text


def _without_token(found: re.Match[str]) -> str:
    return found[0] if found[2] is None else f"{found[1]}{HIDDEN} is invalid"


def show_payloads(wanted: bool) -> None:
    """Whether messages of this process may quote the values of payloads; they may not until this is called."""
    global _shown  # one decision for the process
    _shown = wanted


def payloads_are_shown() -> bool:
    """Whether messages may quote the values of payloads."""
    return _shown


_shown = False
