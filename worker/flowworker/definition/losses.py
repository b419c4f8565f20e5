"""Finding what JSON or jsonb would lose of a value, and where it is. Pure, and slow: asked only where there is reason.

A place is the way from the value to the part: keys and indices.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias, cast

import orjson
from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_json

from flowworker.definition.quoting import Path, named
from flowworker.definition.schemas import traits_of

Finding: TypeAlias = tuple[Path, str]
"""A place, and what is wrong there as the end of a sentence."""

MASK = b"**********"
"""What pydantic writes in the place of a secret."""

PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
"""Plain JSON values only; everything else is asked about."""


def survey(value: object) -> tuple[bytes | None, bool]:
    """A quick look at what no type describes: orjson walks the value, and asks here about what is no plain JSON.

    Returns:
        The value's JSON as far as orjson knows it, and whether that is all of it. None where a closer look is needed:
        keys are no text, and could collapse into one; an iterator is inside; orjson gives up.
    """
    is_plain = True

    def inside(part: object) -> object:
        nonlocal is_plain
        is_plain = False
        return _OPENERS[type(part)](part)

    try:
        return orjson.dumps(value, default=inside, option=PLAIN), is_plain
    except TypeError:
        return None, False


def is_iterator(value: object) -> bool:
    """Whether reading a value takes its items away: generators, map, filter, zip, reversed, open files."""
    return hasattr(type(value), "__next__")


def iterators(value: object, path: Path = ()) -> Iterator[Finding]:
    """Iterators inside a value: reading one consumes its items."""
    if is_iterator(value):
        yield path, f"is {_a(value)}, which can be read only once; make it a list"
        return
    for key, child in _children(value):
        yield from iterators(child, (*path, key))


def doubled_keys(text: bytes) -> Iterator[Finding]:
    """Keys that an object has twice: different keys with one and the same text."""
    found: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            names = [name for name, _ in pairs]
            found.append(next(name for name in names if names.count(name) > 1))
            return {_DOUBLED: found[-1]}
        return members

    value: object = json.loads(text, parse_int=str, object_pairs_hook=unique)
    if found:
        yield from _marked(value, ())


def merged_keys(before: object, after: object, path: Path = ()) -> Iterator[Finding]:
    """Dicts that became smaller when they were converted to their declared type."""
    if _keys(before) > _keys(after) > 0:
        yield path, "has keys that become one and the same"
        return
    for (key, child), (_, kept) in _pairs(before, after):
        yield from merged_keys(child, kept, (*path, key))


def lost_numbers(plain: object, written: object, path: Path = ()) -> Iterator[Finding]:
    """Numbers that are not finite and became null (or a token that is no JSON) on the way.

    A model configured to write such numbers as strings has chosen so, and is left alone.
    """
    plain = plain.value if isinstance(plain, Enum) else plain
    if isinstance(plain, float):
        if not math.isfinite(plain) and not isinstance(written, str):
            yield path, f"is {plain}, which JSON does not have"
        return
    for (_, child), (key, kept) in _pairs(plain, written):
        yield from lost_numbers(child, kept, (*path, key))


def has_unbounded_decimals(plain: object) -> bool:
    """Whether a Decimal in a value is NaN or infinite: it is written as text, which not every type reads again."""
    if isinstance(plain, Decimal):
        return not plain.is_finite()
    return any(has_unbounded_decimals(child) for _, child in _children(plain))


def masked_secrets(plain: object, written: object, path: Path = ()) -> Iterator[Finding]:
    """Secrets of which only the mask was written."""
    if isinstance(plain, (SecretStr, SecretBytes, Secret)):
        if written == MASK.decode():
            yield path, f"is {_a(cast('object', plain))}, of which only a mask would be stored"
        return
    for (_, child), (key, kept) in _pairs(plain, written):
        yield from masked_secrets(child, kept, (*path, key))


def zero_characters(value: object, path: Path = ()) -> Iterator[Finding]:
    """U+0000 in texts and keys."""
    if isinstance(value, str) and "\0" in value:
        yield path, _ZERO
    for key, child in _children(value):
        if isinstance(key, str) and "\0" in key:
            yield (*path, key.replace("\0", "\\u0000")), _ZERO
        yield from zero_characters(child, (*path, key))


def parsed(text: bytes) -> object:
    """JSON as Python values, except that whole numbers stay text: Python refuses to convert very long ones."""
    return json.loads(text, parse_int=str)


def unencodable(value: object, path: Path = ()) -> Iterator[Finding]:
    """Where a value holds something JSON has no word for."""
    if isinstance(value, str):
        if _has_lone_surrogate(value):
            yield path, "contains half of a surrogate pair"
        return
    children = list(_children(value))
    for key, child in children:
        if isinstance(key, str) and _has_lone_surrogate(key):
            yield path, "has a key with half of a surrogate pair"
        yield from unencodable(child, (*path, key))
    if not children:
        try:
            to_json(value)
        except (PydanticSerializationError, RecursionError) as error:
            yield path, f"is {_a(value)}, which cannot be written as JSON: {error}"


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _children(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, BaseModel):
        yield from _model_fields(value).items()
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _dataclass_fields(value).items()
    elif isinstance(value, Mapping):
        for key, child in cast("Mapping[object, object]", value).items():
            yield str(key), child
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from enumerate(cast("list[object]", value))


Pair: TypeAlias = tuple[tuple[str | int, object], tuple[str | int, object]]


def _pairs(before: object, after: object) -> Iterator[Pair]:
    """Children of two forms of one value, in step; none where the forms differ."""
    ours, theirs = list(_children(before)), list(_children(after))
    return zip(ours, theirs, strict=True) if len(ours) == len(theirs) else iter(())


def _keys(value: object) -> int:
    return len(cast("Mapping[object, object]", value)) if isinstance(value, Mapping) else 0


def _opener(kind: type[Any]) -> Callable[[Any], object]:
    """What shows orjson the inside of a value of this type; of models, only where a field's type leaves it open."""
    if issubclass(kind, BaseModel):
        return _model_fields if traits_of(kind.__pydantic_core_schema__).open else _nothing
    if hasattr(kind, "__next__"):
        return _refused
    if issubclass(kind, dict):
        return dict
    if issubclass(kind, (list, tuple, set, frozenset, deque)):
        return list
    return _dataclass_fields if is_dataclass(kind) else _nothing


class _Openers(dict[type, Callable[[Any], object]]):
    """Made when first needed: a dictionary is the quickest cache there is."""

    def __missing__(self, kind: type) -> Callable[[Any], object]:
        if len(self) >= _TYPES_KNOWN:  # a handler may make types as it goes
            self.clear()
        self[kind] = _opener(kind)
        return self[kind]


_OPENERS = _Openers()
_TYPES_KNOWN = 1000


def _model_fields(value: BaseModel) -> Mapping[str, object]:
    extra = value.__pydantic_extra__
    return {**value.__dict__, **extra} if extra else value.__dict__


def _dataclass_fields(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name, None) for field in fields(value)}


def _nothing(_value: object) -> None:
    return None


def _refused(value: object) -> object:
    raise TypeError(f"{value!r} can be read only once")


def _marked(value: object, path: Path) -> Iterator[Finding]:
    for key, child in _children(value):
        if key == _DOUBLED:
            yield path, f'has two keys that are written "{named(str(child))}"'
            return
        yield from _marked(child, (*path, key))


def _a(value: object) -> str:
    return f"a {type(value).__qualname__}"


_DOUBLED = "\0"
_ZERO = "contains U+0000, which PostgreSQL's jsonb does not take"
