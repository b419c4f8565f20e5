"""Numbers that a 64-bit float cannot hold, read exactly all the same.

PostgreSQL keeps every digit of a number. pydantic's JSON parser makes a float of whatever has a decimal point, before
it knows that a Decimal or an int is wanted. So a text with such a number is read a second time, and a Decimal or an int
gets the digits back that belong to its float. All other texts pay for one search.
"""

import math
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import cached_property
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator

from flowworker.definition.schemas import restoring_numbers, traits_of

LARGEST_FLOAT_DIGITS = 309
SHORT = 16
"""Characters of a text that can hold no number with too many digits."""

_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_DIGITS_AND_POINTS = bytes.maketrans(b"123456789.", b"0" * 10)
_LONG = b"0" * 17
"""16 digits and a point: any 15 digits survive a float."""
_LONG_WHOLE = b"0" * 16 + b".0"
_STRIDE = 30
_OVERFLOWING = b"0" * 10
"""In a text of which every 30th byte was taken: at least as many come from 309 digits in a row."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?', re.DOTALL)
_LONG_TOKEN = re.compile(rb"[0-9][0-9.]{16,}")

_EXACT: ContextVar[Mapping[float, Decimal | None]] = ContextVar("exact numbers of the text that is being read")
"""By the float that they became; None for one that stands for two numbers."""


class ExactReader:
    """Reads one type from texts whose numbers have more digits than floats."""

    def __init__(self, schema: CoreSchema) -> None:
        """Take the type's core schema."""
        self._schema = schema
        self._traits = traits_of(schema)

    def wanted(self, text: bytes) -> bool:
        """Whether the type may lose digits of this text; for nearly all texts it does not.

        Args:
            text: JSON as PostgreSQL prints it, without exponents.
        """
        traits = self._traits
        if traits.floats and len(text) > LARGEST_FLOAT_DIGITS and _OVERFLOWING in text[::_STRIDE].translate(_DIGITS):
            return True
        if b"." not in text:
            return False
        if traits.decimals and _LONG in text.translate(_DIGITS_AND_POINTS):
            return any(_is_inexact(token) for token in _LONG_TOKEN.findall(text))
        return traits.integers and b".0" in text and _LONG_WHOLE in text.translate(_DIGITS)

    def read(self, text: bytes) -> tuple[Any, bool]:
        """The value, and whether a number is beyond the largest float, so that the value may hold an infinity.

        Raises:
            ValidationError: the JSON does not fit the type, or two numbers differ only in digits that a float drops.
        """
        tokens = [found[0] for found in _TOKEN.finditer(text) if not found[0].startswith(b'"')]
        restored = _EXACT.set(_by_float(token for token in tokens if not token.lstrip(b"-").isdigit()))
        try:
            return self._validator.validate_json(text), any(math.isinf(float(token)) for token in tokens)
        finally:
            _EXACT.reset(restored)

    @cached_property
    def _validator(self) -> SchemaValidator:
        return restoring_numbers(self._schema, decimal=_exact_decimal, integer=_exact_integer)


def _is_inexact(token: bytes) -> bool:
    """Whether a float would not keep these digits; not so where a float was written, as is usual."""
    text = token.decode()
    return text.count(".") == 1 and repr(float(text)) != text and Decimal(repr(float(text))) != Decimal(text)


def _by_float(tokens: Iterable[bytes]) -> Mapping[float, Decimal | None]:
    found: dict[float, Decimal | None] = {}
    for token in tokens:
        exact = Decimal(token.decode())
        if found.setdefault(float(token), exact) != exact:
            found[float(token)] = None
    return found


def _exact_decimal(value: Any) -> Any:
    if type(value) is not float or value not in (known := _EXACT.get()):
        return value
    exact = known[value]
    if exact is None:
        raise ValueError("another number of the text is the same to 64 bits; send both as strings")
    return exact


def _exact_integer(value: Any) -> Any:
    exact = _exact_decimal(value)
    if isinstance(exact, Decimal) and type(value) is float and exact == exact.to_integral_value():
        return int(exact)
    return value
