"""Laws of reading and writing JSON that hold for every value."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from flowworker import InputError, OutputError
from flowworker.definition.codec import ANYTHING, Reader, Writer

SURROGATES_AND_ZERO = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXT = st.text(SURROGATES_AND_ZERO)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers() | FINITE | TEXT
JSON_VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


class Leaf(BaseModel):
    text: str
    number: float | None
    when: datetime
    amount: Decimal


@dataclass
class Branch:
    leaves: list[Leaf]
    by_id: dict[UUID, date]
    pause: timedelta
    flag: bool
    shape: tuple[int, str]


WRITER = Writer(subject="value", adapter=ANYTHING)
READER = Reader(subject="value", adapter=ANYTHING)


@given(JSON_VALUES)
def test_any_json_value_comes_back_as_it_was(value: Any) -> None:
    assert READER.read(WRITER.write(value)) == value


@given(JSON_VALUES)
def test_what_is_written_is_json_that_other_readers_understand(value: Any) -> None:
    assert json.loads(WRITER.write(value)) == value


@pytest.mark.parametrize("kind", [Leaf, Branch, list[Leaf], Branch | None, int | str, dict[str, Branch]])
@settings(max_examples=40)
@given(data=st.data())
def test_typed_values_come_back_as_they_were(kind: Any, data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    text = Writer(subject="value", adapter=adapter).write(value)

    assert Reader(subject="value", adapter=adapter).read(text) == value


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that JSON can carry, of one of the types above."""
    leaves = st.builds(
        Leaf,
        text=TEXT,
        number=st.none() | FINITE,
        when=st.datetimes(),
        amount=st.decimals(allow_nan=False, allow_infinity=False),
    )
    branches = st.builds(
        Branch,
        leaves=st.lists(leaves, max_size=3),
        by_id=st.dictionaries(st.uuids(), st.dates(), max_size=3),
        pause=st.timedeltas(min_value=timedelta(days=-9999), max_value=timedelta(days=9999)),
        flag=st.booleans(),
        shape=st.tuples(st.integers(), TEXT),
    )
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        Leaf: leaves,
        Branch: branches,
        list[Leaf]: st.lists(leaves),
        dict[str, Branch]: st.dictionaries(TEXT, branches, max_size=2),
    }
    if kind in strategies:
        return strategies[kind]
    return st.one_of(*(strategies.get(member, st.from_type(member).filter(is_clean)) for member in get_args(kind)))


def is_clean(value: object) -> bool:
    return not isinstance(value, str) or ("\0" not in value and not any("\ud800" <= part <= "\udfff" for part in value))


BAD = st.sampled_from([math.nan, math.inf, -math.inf, "a\0b", "\ud800", object(), b"\xff"])


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Any, list[str | int]]:
    """A value with something in it that jsonb cannot hold, and the way there."""
    value, path = draw(BAD), list[str | int]()
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            before = draw(st.lists(SCALARS, max_size=3))
            value, path = [*before, value], [len(before), *path]
        else:
            key = draw(st.text("abc", min_size=1))
            value, path = {**draw(st.dictionaries(st.text("xyz"), SCALARS)), key: value}, [key, *path]
    return value, path


@given(spoilt())
def test_what_jsonb_cannot_hold_is_always_refused_and_found(case: tuple[Any, list[str | int]]) -> None:
    value, path = case
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")

    with pytest.raises(OutputError) as caught:
        WRITER.write(value)

    assert str(caught.value).startswith(f"value at {place} " if place else "value ")


@given(st.binary(max_size=40))
def test_reading_never_fails_in_another_way_than_said(text: bytes) -> None:
    with suppress(InputError):
        READER.read(text)
