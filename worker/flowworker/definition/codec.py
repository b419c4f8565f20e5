"""JSON in and out of a handler, by the types of its signature.

Encoding is faithful or it fails: what jsonb cannot hold (NaN, infinities, U+0000, lone surrogates, unknown objects) is
an error that says where in the output it is. pydantic by itself writes null for NaN, so every null is looked at twice;
outputs without null, NaN and escapes, which is nearly all, pay for three substring searches only.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import ErrorDetails, PydanticSerializationError

Path: TypeAlias = tuple[str | int, ...]

ERRORS_SHOWN = 3
VALUE_SHOWN = 80
"""Characters of an offending value that a message repeats."""

_NOT_FINITE = (b"null", b"NaN", b"Infinity")


class InputError(Exception):
    """The input of a handler is not what its signature asks for; the message names the field and the value."""


class OutputError(Exception):
    """The output of a handler cannot be stored as JSON; the message names the place and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads JSON into one type."""

    subject: str
    """What is read, for messages: `parameter 'site' of step 'urls' of flow 'report'`."""
    adapter: TypeAdapter[Any]

    def read(self, text: bytes) -> Any:
        """The value.

        Raises:
            InputError: the JSON does not fit the type.
        """
        try:
            return self.adapter.validate_json(text)
        except ValidationError as error:
            raise InputError(explain(error, self.subject)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes values of one type as JSON."""

    subject: str
    adapter: TypeAdapter[Any]

    def write(self, value: object) -> bytes:
        """The JSON.

        A value that is not of the declared type is converted to it where pydantic can (a dict to a model), as for
        inputs.

        Raises:
            OutputError: the value does not fit the type, or JSON or jsonb cannot hold it.
        """
        try:
            text = self.adapter.dump_json(value, by_alias=True, warnings="error")
        except (PydanticSerializationError, RecursionError) as error:
            value = self._converted(value, error)
            text = self._dumped(value)
        if value is not None and any(token in text for token in _NOT_FINITE):
            self._refuse_lost_numbers(value, text)
        if b"\\u0000" in text:
            self._refuse_zero_characters(text)
        return text

    def may_write_array(self) -> bool:
        """Whether every value of the type is a JSON array, as far as the type tells."""
        try:
            schema = self.adapter.json_schema(mode="serialization")
        except PydanticInvalidForJsonSchema:
            return True
        return _is_array(schema, schema.get("$defs", {}))

    def _converted(self, value: object, cause: Exception) -> object:
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            self._refuse_unencodable(value, cause)
            raise OutputError(explain(error, self.subject)) from error

    def _dumped(self, value: object) -> bytes:
        try:
            return self.adapter.dump_json(value, by_alias=True, warnings=False)
        except (PydanticSerializationError, RecursionError) as error:
            self._refuse_unencodable(value, error)
            raise OutputError(f"{self.subject} cannot be written as JSON: {error}") from error

    def _refuse_unencodable(self, value: object, cause: Exception) -> None:
        try:
            problem = next(_unencodable(value, ()), None)
        except RecursionError:
            problem = None
        if problem is not None:
            path, reason = problem
            raise OutputError(f"{place_in(self.subject, path)} {reason}") from cause

    def _refuse_lost_numbers(self, value: object, text: bytes) -> None:
        plain = self.adapter.dump_python(value, by_alias=True, warnings=False)
        for path, number in _lost_numbers(plain, _parsed(text), ()):
            raise OutputError(f"{place_in(self.subject, path)} is {number}, which JSON does not have")

    def _refuse_zero_characters(self, text: bytes) -> None:
        for path in _zero_characters(_parsed(text), ()):
            raise OutputError(f"{place_in(self.subject, path)} contains U+0000, which PostgreSQL's jsonb does not take")


def explain(error: ValidationError, subject: str) -> str:
    """One line about a validation error: the subject, then field, problem and value of the first errors."""
    problems = error.errors(include_url=False, include_context=False)
    lines = [_one_problem(problem) for problem in problems[:ERRORS_SHOWN]]
    more = len(problems) - len(lines)
    return f"{subject}: {'; '.join(lines)}{f' (and {more} more)' if more else ''}"


def place_in(subject: str, path: Path) -> str:
    """A place inside a value: `output of step 'total' at .urls[3]`."""
    return f"{subject} at {_dotted(path)}" if path else subject


def shortened(value: object) -> str:
    """A value for a message, cut when it is long."""
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN else f"{text[: VALUE_SHOWN - 1]}…"


def _is_array(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> bool:
    if reference := schema.get("$ref"):
        return _is_array(definitions[reference.rpartition("/")[2]], definitions)
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return all(_is_array(member, definitions) for member in members)
    return schema.get("type", "array") == "array"


def _one_problem(problem: ErrorDetails) -> str:
    path = _dotted(problem["loc"])
    got = "" if problem["type"] in {"missing", "json_invalid"} else f" (got {shortened(problem['input'])})"
    return f"{path}: {problem['msg']}{got}" if path else f"{problem['msg']}{got}"


def _dotted(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _parsed(text: bytes) -> object:
    """JSON as Python values, except that whole numbers stay text: Python refuses to convert very long ones."""
    return json.loads(text, parse_int=str)


def _children(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, Mapping):
        for key, child in cast("Mapping[object, object]", value).items():
            yield str(key), child
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from enumerate(cast("Sequence[object]", value))


def _lost_numbers(plain: object, written: object, path: Path) -> Iterator[tuple[Path, float]]:
    """Numbers that are not finite and became null (or a token that is no JSON) on the way.

    A model configured to write such numbers as strings has chosen so, and is left alone.
    """
    if isinstance(plain, float):
        if not math.isfinite(plain) and not isinstance(written, str):
            yield path, plain
        return
    before, after = list(_children(plain)), list(_children(written))
    if len(before) == len(after):
        for (_, child), (key, kept) in zip(before, after, strict=True):
            yield from _lost_numbers(child, kept, (*path, key))


def _zero_characters(value: object, path: Path) -> Iterator[Path]:
    if isinstance(value, str) and "\0" in value:
        yield path
    for key, child in _children(value):
        if isinstance(key, str) and "\0" in key:
            yield (*path, key.replace("\0", "\\u0000"))
        yield from _zero_characters(child, (*path, key))


def _unencodable(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Where a value holds something JSON has no word for."""
    if isinstance(value, str):
        if _has_lone_surrogate(value):
            yield path, f"contains half of a surrogate pair: {shortened(value)}"
        return
    children = list(_children(value))
    for key, child in children:
        if isinstance(key, str) and _has_lone_surrogate(key):
            yield path, f"has a key with half of a surrogate pair: {shortened(key)}"
        yield from _unencodable(child, (*path, key))
    if not children:
        try:
            ANYTHING.dump_json(value)
        except (PydanticSerializationError, RecursionError) as error:
            yield path, f"is a {type(value).__qualname__}, which cannot be written as JSON: {error}"


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
"""For values without a declared type: models, dataclasses, datetimes, UUIDs… are recognised by what they are."""
