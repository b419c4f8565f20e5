"""JSON that is sent exactly as it is written: no number is rounded on the way through Python."""

import json
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class JsonText:
    """A run's input or a job's payload given as text; the client and the command line store it as it is.

    Example:
        >>> JsonText.parse('{"price": 12345678901234567890.12}').text
        '{"price": 12345678901234567890.12}'
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take text that jsonb will hold without a loss.

        Raises:
            ValueError: it is no JSON, or jsonb would drop or refuse a part of it: a key that comes twice in one
                object, NaN, U+0000, half of a surrogate pair.
        """
        try:
            value = json.loads(
                text, parse_int=str, parse_float=str, parse_constant=_refuse_constant, object_pairs_hook=_members
            )
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        _check_texts(value)
        return cls(text)


def decoded(text: bytes) -> Any:
    """The value of a JSON text from the database."""
    from pydantic_core import from_json  # costs a tenth of a command that prints the text as it is

    return from_json(text)


def _members(pairs: list[tuple[str, Any]]) -> list[Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {doubled!r} twice")
    return [*names, *(value for _, value in pairs)]


def _check_texts(value: Any) -> None:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, str) and "\0" in part:
            raise ValueError("it contains U+0000, which PostgreSQL's jsonb does not take")
        elif isinstance(part, str) and any("\ud800" <= character <= "\udfff" for character in part):
            raise ValueError(f"it contains half of a surrogate pair: {part[:80]!r}")


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
