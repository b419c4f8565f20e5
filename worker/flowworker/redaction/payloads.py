"""Values of payloads that other libraries quote in their messages: pydantic what it refuses, PostgreSQL whole rows."""

import re

from flowworker.redaction.shapes import HIDDEN

_QUOTED = (
    ("input_value=", re.compile(r"(input_value=)(?:[^\n]*(?=, input_type=)|(?s:.{0,1000}?)(?=, input_type=)|[^\n]*)")),
    ("Failing row contains", re.compile(r"(Failing row contains \()(?s:.*)(?=\))")),
    ("Key (", re.compile(r"(Key \([^()\n]{0,200}\)=\()[^\n]*(?=\))")),
    ("query argument", re.compile(r"(invalid input for query argument \$\d+(?: in element #\d+ of executemany\(\) "
                                  r"sequence)?: )(?!\*\*\*$)(?s:.+)")),
    ("nvalid input syntax", re.compile(r"(nvalid input syntax for (?:type )?[\w ]{1,40}: )\"(?s:.*)\"")),
    ("out of range", re.compile(r"(?:(?<=value )|(?<=out of range: ))()\"[^\n]*\"")),
    ("Token \"", re.compile(r"(Token )\"[^\n]*\"(?= is invalid)")),
    ("JSON data, line", re.compile(r"(JSON data, line \d+: )[^\n]*")),
)  # fmt: skip
"""A text that must be there, and what is hidden behind its first group."""


def without_payloads(text: str) -> str:
    """The text without the values that messages of pydantic and PostgreSQL quote."""
    for hint, pattern in _QUOTED:
        if hint in text:
            text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def show_payloads(wanted: bool) -> None:
    """Whether messages of this process may quote the values of payloads; they may not until this is called."""
    global _shown  # one decision for the process
    _shown = wanted


def payloads_are_shown() -> bool:
    """Whether messages may quote the values of payloads."""
    return _shown


_shown = False
