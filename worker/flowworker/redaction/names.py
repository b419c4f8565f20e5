"""Names of variables and fields whose value is a secret."""

import re

from flowworker.redaction.words import NAME, TAIL

_PLACE = r"(?:[_-](?:base|prod|production|live|staging|dev|test|db|primary|secondary))?"
_NAMED = re.compile(rf"(?i){NAME}{TAIL}{_PLACE}$|^(?:proxy-)?authorization$|^(?:set-)?cookie$")


def names_a_secret(name: str) -> bool:
    """Whether what goes by this name, a variable or a field, is a secret."""
    return bool(_NAMED.search(name))
