"""Quantities of Kubernetes, as far as equality goes: the API server rewrites `0.5` to `500m` and `1024Mi` to `1Gi`."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d{1,3}))?", re.ASCII)
_LONGEST = 64
"""Characters of a quantity. Any text of the cluster may be compared as one, and a longer one is none."""

_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL = {suffix: Decimal(10) ** power for suffix, power in _POWERS.items()}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}


def same_quantity(one: object, other: object) -> bool:
    """Whether two values are quantities of the same size."""
    sizes = (_size(one), _size(other))
    return sizes[0] is not None and sizes[0] == sizes[1]


def _size(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    factor = (_DECIMAL | _BINARY)[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * factor
