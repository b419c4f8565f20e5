"""What a handler returns is stored as it is, or refused with its place; what is stored is read with every digit."""

import collections
import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, Secret, SecretStr, TypeAdapter, field_serializer
from typing_extensions import TypedDict

from flowworker import Flow, InputError, JsonText, OutputError, Queue
from flowworker.definition.codec import Reader, Writer


class Shape(BaseModel):
    name: str = "shape"


class Circle(Shape):
    radius: float = 1.5


class Shapes(RootModel[list[Shape]]):
    pass


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    good: bool = True


class Pet(TypedDict):
    name: str


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = "loose"


class Holder(BaseModel):
    shape: Shape
    meta: Any = None


class Account(BaseModel):
    user: str
    password: SecretStr


class OpenAccount(Account):
    @field_serializer("password")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Lazy(BaseModel):
    numbers: Iterable[float | None]


@dataclass
class Carrier:
    items: list[int]


class Place(NamedTuple):
    x: int
    shape: Shape


class Level(enum.Enum):
    LOW = 1
    HIGH = "1"


class Reserved(BaseModel):
    """Fields that are called like parts of pydantic's own description of types."""

    type: Decimal
    config: dict[str, Any] = {}
    default: Any = None
    metadata: Any = None


def write(kind: Any, value: object) -> bytes:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return Writer(subject="output", adapter=adapter).write(value)


def read(kind: Any, text: bytes) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return Reader(subject="input", adapter=adapter).read(text)


ITERATORS: list[Callable[[], Any]] = [
    lambda: (number for number in (1, 2)),
    lambda: map(int, "12"),
    lambda: filter(None, [0, 1, 2]),
    lambda: reversed([2, 1]),
    lambda: iter([1, 2]),
    lambda: iter({1: "a", 2: "b"}),
]


@pytest.mark.parametrize("kind", [list[int], Any, list, Sequence[int], Iterable[int], tuple[int, ...], object])
@pytest.mark.parametrize("make", ITERATORS, ids=range(len(ITERATORS)))
def test_an_iterator_is_written_as_the_list_of_its_items(kind: Any, make: Callable[[], Any]) -> None:
    assert write(kind, make()) == b"[1,2]"


def test_items_of_an_iterator_are_checked_like_others() -> None:
    assert write(list[tuple[int, str]], zip([1], ["a"], strict=True)) == b'[[1,"a"]]'
    with pytest.raises(OutputError, match=r"output: \[0\]: .*valid integer"):
        write(list[int], zip([1], ["a"], strict=True))
    with pytest.raises(OutputError, match=r"output at \[1\] is nan"):
        write(Any, iter([None, math.nan]))


def test_a_step_that_returns_a_generator_feeds_its_map() -> None:
    flow = Flow("flow")

    @flow.step
    def numbers() -> list[int]:
        return (number for number in range(3))  # pyright: ignore[reportReturnType]

    @flow.map(over=numbers)
    def double(number: int) -> int:
        return 2 * number

    assert numbers.handler.encode(numbers()) == b"[0,1,2]"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Any, {"a": [map(int, "12")]}, r"at a\[0\] is a map, which can be read only once"),
        (Carrier, Carrier(items=iter([1])), r"at items is a list_iterator"),  # pyright: ignore[reportArgumentType]
        (list[list[int]], [iter([1])], r"at \[0\] is a list_iterator"),
        (Lazy, Lazy(numbers=[1.0, None]), r"at numbers is a ValidatorIterator"),
        (Any, Holder(shape=Shape(), meta=(x for x in "ab")), r"at meta is a generator"),
        (Any, collections.deque([iter("a")]), r"at \[0\] is a str_"),
    ],
)
def test_an_iterator_inside_of_a_value_is_refused_with_its_place(kind: Any, value: object, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        write(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        (Shape, Circle(), {"name": "shape", "radius": 1.5}),
        (Shape | None, Circle(), {"name": "shape", "radius": 1.5}),
        (Shape | int, Circle(), {"name": "shape", "radius": 1.5}),
        (list[Shape], [Circle()], [{"name": "shape", "radius": 1.5}]),
        (list[Shape], (Circle(),), [{"name": "shape", "radius": 1.5}]),
        (dict[str, Shape], {"a": Circle()}, {"a": {"name": "shape", "radius": 1.5}}),
        (Shapes, Shapes([Circle()]), [{"name": "shape", "radius": 1.5}]),
        (Holder, Holder(shape=Circle()), {"shape": {"name": "shape", "radius": 1.5}, "meta": None}),
        (Place, Place(1, Circle()), [1, {"name": "shape", "radius": 1.5}]),
        (Animal, Dog("rex"), {"name": "rex", "good": True}),
        (list[Animal], [Dog("rex")], [{"name": "rex", "good": True}]),
        (Pet, {"name": "rex", "age": 3}, {"name": "rex", "age": 3}),
        (list[Pet], [{"name": "rex", "age": {"y": 3}}], [{"name": "rex", "age": {"y": 3}}]),
        (Loose, Loose.model_validate({"more": [1]}), {"name": "loose", "more": [1]}),
        (Loose, {"more": [1]}, {"name": "loose", "more": [1]}),
    ],
)
def test_fields_that_the_declared_type_does_not_have_are_kept(kind: Any, value: object, written: Any) -> None:
    assert orjson.loads(write(kind, value)) == written


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Shape, {"name": "a", "radius": 2}, r"output: radius: Extra inputs are not permitted"),
        (list[Shape], [{"radius": 2}], r"output: \[0\].radius: Extra inputs"),
        (list[Pet], ({"name": "a", "age": 2},), r"output: \[0\].age: Extra inputs"),
        (Animal, {"name": "a", "good": True}, r"output: good: Unexpected"),
    ],
)
def test_a_dict_with_more_than_its_model_is_refused(kind: Any, value: object, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        write(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Any, {1: "a", "1": "b"}, r'output has two keys that are written "1"'),
        (dict, {1: "a", "1": "b"}, r'output has two keys that are written "1"'),
        (object, [{None: 1, "None": 2}], r'output at \[0\] has two keys that are written "None"'),
        (Any, {"a": [{True: 1, "true": 2}]}, r'output at a\[0\] has two keys that are written "true"'),
        (dict[int | str, int], {1: 1, "1": 2}, r'has two keys that are written "1"'),
        (dict[Level, int], {Level.LOW: 1, Level.HIGH: 2}, r'has two keys that are written "1"'),
        (dict[int, str], {1: "a", "1": "b"}, r"has keys that become one and the same"),
        (list[dict[int, str]], [{1: "a", "1": "b"}], r"at \[0\] has keys that become one and the same"),
        (Loose, Loose.model_validate({"more": {1: 1, "1": 2}}), r'at more has two keys that are written "1"'),
        (Holder, Holder(shape=Shape(), meta={1: 1, "1": 2}), r'at meta has two keys that are written "1"'),
    ],
)
def test_keys_that_become_one_are_refused_with_their_place(kind: Any, value: object, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        write(kind, value)


def test_keys_that_stay_apart_are_written_as_text() -> None:
    assert write(Any, {1: {2.5: "a"}, "b": 0}) == b'{"1":{"2.5":"a"},"b":0}'
    assert write(dict[Level, int], {Level.LOW: 1}) == b'{"1":1}'


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (SecretStr, SecretStr("hunter2"), "output is a SecretStr"),
        (Account, Account(user="ann", password=SecretStr("hunter2")), "output at password is a SecretStr"),
        (Any, [Account(user="ann", password=SecretStr("hunter2"))], r"output at \[0\].password is a SecretStr"),
        (Any, {"pin": Secret(1234)}, r"output at pin is a Secret"),
    ],
)
def test_a_secret_of_which_only_a_mask_would_be_stored_is_refused(kind: Any, value: object, place: str) -> None:
    with pytest.raises(OutputError, match=rf"^{place}.*mask") as caught:
        write(kind, value)
    assert "hunter2" not in str(caught.value)


def test_a_secret_that_its_model_reveals_and_a_text_like_a_mask_are_stored() -> None:
    account = OpenAccount(user="ann", password=SecretStr("hunter2"))
    assert write(OpenAccount, account) == b'{"user":"ann","password":"hunter2"}'
    assert write(str, "*" * 10) == b'"**********"'


def test_a_decimal_that_its_type_could_not_read_again_is_refused() -> None:
    with pytest.raises(OutputError, match=r"output: Input should be a finite number"):
        write(Decimal, Decimal("NaN"))
    assert write(str, "NaN") == b'"NaN"'


@pytest.mark.parametrize(
    "value",
    [
        range(3),
        object(),
        len,
        int,
        ValueError("a"),
        memoryview(b"a"),
        {"a": 1}.keys(),
        {"a": Ellipsis},
        test_a_secret_that_its_model_reveals_and_a_text_like_a_mask_are_stored,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_json_is_refused_with_its_type(value: object) -> None:
    with pytest.raises(OutputError, match=r"is a \w+, which cannot be written as JSON"):
        write(Any, value)


DIGITS = "12345678901234567890.123456789"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Decimal, DIGITS, Decimal(DIGITS)),
        (Decimal, "-0.12345678901234567890", Decimal("-0.12345678901234567890")),
        (Decimal, "1" + "0" * 400, Decimal(10) ** 400),
        (Decimal | None, DIGITS, Decimal(DIGITS)),
        (list[Decimal], f"[1.5, {DIGITS}]", [Decimal("1.5"), Decimal(DIGITS)]),
        (dict[str, Decimal], f'{{"a": {DIGITS}}}', {"a": Decimal(DIGITS)}),
        (Reserved, f'{{"type": {DIGITS}}}', Reserved(type=Decimal(DIGITS))),
        (int, "9007199254740993", 2**53 + 1),
        (int, "9007199254740993.0", 2**53 + 1),
        (int, "1" + "0" * 400, 10**400),
        (float, DIGITS, float(DIGITS)),
        (Any, DIGITS, float(DIGITS)),
        (Any, "12345678901234567890", 12345678901234567890),
        (str, f'"{DIGITS}"', DIGITS),
    ],
)
def test_every_digit_of_a_number_is_read(kind: Any, text: str, value: Any) -> None:
    found = read(kind, text.encode())
    assert found == value
    assert type(found) is type(value)


def test_digits_are_kept_beside_floats_strings_and_whatever_validates() -> None:
    class Entry(BaseModel):
        amount: Decimal = Field(max_digits=40)
        rate: float
        note: Any
        label: int | str

    text = f'{{"amount": {DIGITS}, "rate": {DIGITS}, "note": [{DIGITS}], "label": "{DIGITS}", "more": "\\"1.5"}}'
    entry = read(Entry, text.encode())
    assert entry == Entry(amount=Decimal(DIGITS), rate=float(DIGITS), note=[float(DIGITS)], label=DIGITS)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (list[Decimal], "[100000000000000000.01, 100000000000000000.02]", r"\[0\]: .*the same to 64 bits"),
        (float, "1" + "0" * 400, r"input is inf, .* 308 digits"),
        (list[float], "[1.0, 1" + "0" * 400 + ".5]", r"input at \[1\] is inf"),
        (Any, '{"a": 1' + "0" * 400 + ".5}", r"input at a is inf"),
    ],
)
def test_a_number_that_cannot_be_read_without_a_loss_is_refused(kind: Any, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(kind, text.encode())


def test_outputs_of_steps_are_read_exactly_too() -> None:
    flow = Flow("flow")

    @flow.step
    def price() -> Decimal: ...

    @flow.step
    def total(price: Decimal) -> Decimal: ...

    assert total.handler.decode(f'{{"price": {DIGITS}}}'.encode(), None).values == {"price": Decimal(DIGITS)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("[NaN]", "NaN is no JSON"),
        ("-Infinity", "-Infinity is no JSON"),
        (r'["\u0000"]', r"U\+0000"),
        (r'{"\u0000": 1}', r"U\+0000"),
        (r'"\ud800"', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_of_json_that_the_database_would_not_keep_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonText.parse(text)


def test_text_of_json_is_sent_as_it_is_once_its_reader_can_read_it() -> None:
    flow, queue = Flow("flow"), Queue("queue")

    @flow.step
    def price(amount: Decimal) -> None: ...

    @queue.job
    def book(amount: Decimal) -> None: ...

    text = JsonText.parse(f" {DIGITS}0")
    assert flow.encode_input(text) == queue.encode_payload(text) == f" {DIGITS}0".encode()
    with pytest.raises(InputError, match="valid decimal"):
        flow.encode_input(JsonText.parse('"word"'))
    with pytest.raises(InputError, match="valid decimal"):
        queue.encode_payload(JsonText.parse('"word"'))
