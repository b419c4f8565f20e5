"""JSON as PostgreSQL's jsonb keeps it: numbers with all their digits, objects without the order of their keys."""

import json
from decimal import Decimal
from typing import Any, cast

import orjson

from flowworker.definition.conditions import canonical

MOST_DIGITS_BEFORE_POINT = 131_072
MOST_DIGITS_AFTER_POINT = 16_383
"""Limits of PostgreSQL's numeric."""

_CERTAIN_DIGITS = 15
"""So many digits no float and no int of orjson's changes."""


class _ExactFloat(float):
    """A float that remembers its digits."""

    text: str


class _ExactInt(int):
    """An int of any size, which orjson asks about."""


def loads(text: bytes | str) -> Any:
    """A value as jsonb takes it; numbers are ints and floats that `dumps` writes with the digits they came with.

    Raises:
        ValueError: jsonb would refuse it.
    """
    return json.loads(
        text,
        parse_float=_fraction,
        parse_int=_whole,
        parse_constant=_refused,
        object_pairs_hook=_in_jsonb_order,
    )


def dumps(value: Any) -> bytes:
    """JSON of a value from `loads`."""
    return orjson.dumps(value, default=_digits, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def contains(value: Any, pattern: Any) -> bool:
    """What `value @> pattern` is, of values from `loads`: objects and lists may hold more, in any order."""
    if isinstance(pattern, dict):
        parts = cast("dict[str, Any]", pattern)
        return isinstance(value, dict) and all(key in value and contains(value[key], parts[key]) for key in parts)
    if isinstance(pattern, list):
        wanted = cast("list[Any]", pattern)
        return isinstance(value, list) and all(_any_contains(cast("list[Any]", value), part) for part in wanted)
    return not isinstance(value, dict | list) and canonical(dumps(value)) == canonical(dumps(pattern))


def _any_contains(items: list[Any], part: Any) -> bool:
    return any(contains(item, part) for item in items)


def _whole(text: str) -> int:
    if len(text) <= _CERTAIN_DIGITS:
        return int(text)
    _check_size(Decimal(text))
    return _ExactInt(Decimal(text))  # Python refuses very long texts


def _fraction(text: str) -> float | int:
    exact = Decimal(text)
    _check_size(exact)
    digits = format(exact, "f")
    if "." not in digits:
        return _whole(digits)
    number = _ExactFloat(digits)
    number.text = digits.removeprefix("-") if exact == 0 else digits
    return number


def _check_size(number: Decimal) -> None:
    exponent = number.as_tuple().exponent
    after = -exponent if isinstance(exponent, int) else 0
    if number.adjusted() >= MOST_DIGITS_BEFORE_POINT or after > MOST_DIGITS_AFTER_POINT:
        raise ValueError("value overflows numeric format")


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _in_jsonb_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(pairs).items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode())))


def _digits(value: object) -> Any:
    if isinstance(value, _ExactFloat):
        return orjson.Fragment(value.text)
    if isinstance(value, _ExactInt):
        return orjson.Fragment(str(Decimal(int(value))))
    raise TypeError(f"{value!r} is no JSON")
