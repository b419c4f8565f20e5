"""Quantities of Kubernetes, as far as equality goes: the API server rewrites `0.5` to `500m` and `1024Mi` to `1Gi`."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d+))?")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL = {suffix: Decimal(10) ** power for suffix, power in _POWERS.items()}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}


def same_quantity(one: object, other: object) -> bool:
    """Whether two values are quantities of the same size."""
    sizes = (_size(one), _size(other))
    return sizes[0] is not None and sizes[0] == sizes[1]


def _size(value: object) -> Decimal | None:
    match = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    factor = (_DECIMAL | _BINARY)[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * factor
