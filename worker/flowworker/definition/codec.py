"""JSON in and out of a handler, by the types of its signature.

Encoding is faithful or it fails: what JSON or jsonb would lose (NaN, infinities, U+0000, lone surrogates, unknown
objects, keys that become one, masked secrets) is an error that says where in the output it is. What pydantic loses in
silence is looked for only where the type or the text gives reason to; nearly all outputs pay for a few substring
searches.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, SchemaSerializer

from flowworker.definition.exact_numbers import SHORT, ExactReader
from flowworker.definition.losses import (
    MASK,
    Finding,
    doubled_keys,
    has_unbounded_decimals,
    is_iterator,
    iterators,
    lost_numbers,
    masked_secrets,
    merged_keys,
    parsed,
    survey,
    unencodable,
    zero_characters,
)
from flowworker.definition.quoting import explain, place_in
from flowworker.definition.schemas import keeping_extras, keeping_subclasses, traits_of

_NOT_FINITE = (b"null", b"NaN", b"Infinity")


class InputError(Exception):
    """The input of a handler is not what its signature asks for; the message names the field and what is wrong."""


class OutputError(Exception):
    """The output of a handler cannot be stored as JSON; the message names the place and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads JSON into one type."""

    subject: str
    """What is read, for messages: `parameter 'site' of step 'urls' of flow 'report'`."""
    adapter: TypeAdapter[Any]
    _exact: ExactReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", ExactReader(self.adapter.core_schema))

    def read(self, text: bytes) -> Any:
        """The value; digits that a 64-bit float has no room for are kept where the type does.

        Raises:
            InputError: the JSON does not fit the type, or it could not be read without a loss.
        """
        try:
            value = self.adapter.validator.validate_json(text)
        except ValidationError as error:
            raise InputError(explain(error, self.subject)) from None
        if len(text) > SHORT and self._exact.wanted(text):
            return read_exactly(self._exact, text, self.subject)
        return value


def read_exactly(reader: ExactReader, text: bytes, subject: str) -> Any:
    """Read a text whose numbers have more digits than floats.

    Raises:
        InputError: digits would be lost.
    """
    try:
        value, overflowing = reader.read(text)
        if overflowing:
            Writer(subject=subject, adapter=ANYTHING).write(value)
    except ValidationError as error:
        raise InputError(explain(error, subject)) from None
    except OutputError as error:
        raise InputError(f"{error}; the number sent has more than 308 digits") from error
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes values of one type as JSON."""

    subject: str
    adapter: TypeAdapter[Any]
    _serializer: SchemaSerializer = field(init=False, repr=False, compare=False)
    _dataclasses: tuple[type, ...] = field(init=False, repr=False, compare=False)
    _is_open: bool = field(init=False, repr=False, compare=False)
    _allows_extras: bool = field(init=False, repr=False, compare=False)
    _plain_type: type | None = field(init=False, repr=False, compare=False)
    """What a value must be to be written by orjson when all in it is plain JSON; None: nothing is."""

    def __post_init__(self) -> None:
        schema = self.adapter.core_schema
        traits = traits_of(schema)
        serializer = keeping_extras(schema) if traits.typed_dicts else self.adapter.serializer
        object.__setattr__(self, "_serializer", serializer)
        object.__setattr__(self, "_dataclasses", traits.dataclasses)
        object.__setattr__(self, "_is_open", traits.open)
        object.__setattr__(self, "_allows_extras", traits.allows_extras)
        object.__setattr__(self, "_plain_type", _plain_type(schema))

    def write(self, value: object) -> bytes:
        """The JSON.

        An iterator is written as the list of its items. A subclass keeps all its fields. A value that is not of the
        declared type is converted to it where pydantic can without leaving anything out (a dict to a model).

        Raises:
            OutputError: the value does not fit the type, or something of it would be lost.
        """
        if is_iterator(value):
            value = list(cast("Iterable[object]", value))
        text, plain = self._surveyed(value) if self._is_open else (self._dumped(value), False)
        if value is not None and any(token in text for token in _NOT_FINITE):
            self._refuse_lost_numbers(value, text, plain)
        if b"\\u0000" in text:
            self._refuse(zero_characters(parsed(text)))
        if b"*" in text and MASK in text:
            self._refuse(masked_secrets(self._python(value), parsed(text)))
        return text

    def may_write_array(self) -> bool:
        """Whether every value of the type is a JSON array, as far as the type shows."""
        try:
            schema = self.adapter.json_schema(mode="serialization")
        except PydanticInvalidForJsonSchema:
            return True
        return _is_array(schema, schema.get("$defs", {}))

    def _surveyed(self, value: object) -> tuple[bytes, bool]:
        """The text, and whether all of the value is plain JSON; for types that do not describe all of it."""
        text, is_plain = survey(value)
        if text is not None and is_plain and self._plain_type and isinstance(value, self._plain_type):
            return text, True
        if text is None:
            self._refuse(iterators(value))
        written = self._dumped(value)
        if text is None:
            self._refuse(doubled_keys(written))
        return written, False

    def _writing(self) -> SchemaSerializer:
        if self._dataclasses and any(kind.__subclasses__() for kind in self._dataclasses):
            return keeping_subclasses(self.adapter)
        return self._serializer

    def _dumped(self, value: object) -> bytes:
        try:
            return self._writing().to_json(value, by_alias=True, warnings="error", polymorphic_serialization=True)
        except (PydanticSerializationError, RecursionError) as error:
            return self._dumped_as_converted(value, error)

    def _dumped_as_converted(self, value: object, cause: Exception) -> bytes:
        self._refuse(iterators(value))
        converted = self._converted(value, cause)
        try:
            return self._writing().to_json(converted, by_alias=True, warnings=False, polymorphic_serialization=True)
        except (PydanticSerializationError, RecursionError) as error:
            self._refuse(unencodable(converted, ()), error)
            raise OutputError(f"{self.subject} cannot be written as JSON: {error}") from error

    def _converted(self, value: object, cause: Exception) -> object:
        try:
            converted = self.adapter.validate_python(value, extra=None if self._allows_extras else "forbid")
        except ValidationError as error:
            self._refuse(unencodable(value, ()), cause)
            raise OutputError(explain(error, self.subject)) from None
        self._refuse(merged_keys(value, converted))
        return converted

    def _python(self, value: object) -> object:
        return self._writing().to_python(value, by_alias=True, warnings=False, polymorphic_serialization=True)

    def _refuse_lost_numbers(self, value: object, text: bytes, plain: bool) -> None:
        before = value if plain else self._python(value)
        self._refuse(lost_numbers(before, parsed(text)))
        if has_unbounded_decimals(before):
            self._read_back(text)

    def _read_back(self, text: bytes) -> None:
        try:
            self.adapter.validator.validate_json(text)
        except ValidationError as error:
            raise OutputError(explain(error, self.subject)) from None

    def _refuse(self, findings: Iterator[Finding], cause: Exception | None = None) -> None:
        try:
            found = next(findings, None)
        except RecursionError:
            return
        if found is not None:
            path, problem = found
            raise OutputError(f"{place_in(self.subject, path)} {problem}") from cause


def _is_array(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> bool:
    if reference := schema.get("$ref"):
        return _is_array(definitions[reference.rpartition("/")[2]], definitions)
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return all(_is_array(member, definitions) for member in members)
    return schema.get("type", "array") == "array"


def _plain_type(schema: Mapping[str, Any]) -> type | None:
    """What every value of a type is an instance of, if the type says nothing more about it."""
    if "serialization" in schema:
        return None
    match schema["type"]:
        case "any":
            return object
        case "dict" if _says(schema, "keys_schema") in {"any", "str"} and _says(schema, "values_schema") == "any":
            return dict
        case "list" if _says(schema, "items_schema") == "any":
            return list
        case _:
            return None


def _says(schema: Mapping[str, Any], part: str) -> str:
    return schema.get(part, {"type": "any"})["type"]


ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
"""For values without a declared type: models, dataclasses, datetimes, UUIDs… are recognised by what they are."""
