"""Values of every type that the page on types names, for tests that send them through the database."""

import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from pydantic import AnyUrl, Base64Bytes, BaseModel, ByteSize, ConfigDict, Field, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

T = TypeVar("T")

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MINUTES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
"""ISO 8601 knows offsets to the minute."""


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Mode(enum.StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Point(NamedTuple):
    x: int
    label: str


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@dataclass
class Leaf:
    amount: Decimal
    tags: frozenset[str]


@pydantic_dataclass
class Checked:
    number: int
    leaf: Leaf | None = None


class Order(BaseModel):
    number: int
    price: Decimal
    placed_at: datetime
    note: str | None = None
    lines: list[Leaf] = []


class Renamed(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_name: str = Field(alias="userName")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Names(RootModel[list[str]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]

SCALARS = st.none() | st.booleans() | st.integers() | FLOATS.filter(lambda number: abs(number) < 2**53) | TEXT
PLAIN: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
LEAVES = st.builds(Leaf, amount=DECIMALS, tags=st.frozensets(TEXT, max_size=3))
ORDERS = st.builds(
    Order,
    number=st.integers(),
    price=DECIMALS,
    placed_at=st.datetimes(timezones=st.none() | MINUTES),
    note=st.none() | TEXT,
    lines=st.lists(LEAVES, max_size=2),
)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    Any: PLAIN,
    None: st.none(),
    bool: st.booleans(),
    int: st.integers() | st.integers(-(10**80), 10**80),
    float: FLOATS,
    str: TEXT,
    bytes: TEXT.map(str.encode),
    Decimal: DECIMALS,
    Fraction: st.fractions(),
    complex: st.complex_numbers(allow_nan=False, allow_infinity=False),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.none() | MINUTES),
    time: st.times(timezones=st.none() | MINUTES),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Path: st.lists(st.text("abc", min_size=1), min_size=1).map(lambda parts: Path(*parts)),
    IPv4Address: st.ip_addresses(v=4),
    IPv6Address: st.ip_addresses(v=6),
    IPv4Interface: st.ip_addresses(v=4).map(lambda address: IPv4Interface(f"{address}/24")),
    IPv4Network: st.ip_addresses(v=4).map(lambda address: IPv4Network(f"{address}/24", strict=False)),
    AnyUrl: st.text("abc", min_size=1).map(lambda host: AnyUrl(f"https://{host}.example/x?q=1")),
    re.Pattern[str]: st.sampled_from(["a+", "^b$", "[0-9]"]).map(re.compile),
    ByteSize: st.integers(0, 2**60).map(ByteSize),
    Base64Bytes: st.binary(max_size=20),
    Color: st.sampled_from(Color),
    Size: st.sampled_from(Size),
    Mode: st.sampled_from(Mode),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    list: st.lists(PLAIN, max_size=4),
    dict: st.dictionaries(TEXT, PLAIN, max_size=4),
    list[int]: st.lists(st.integers()),
    list[Decimal]: st.lists(DECIMALS, max_size=4),
    tuple[int, str]: st.tuples(st.integers(), TEXT),
    tuple[float, ...]: st.lists(FLOATS).map(tuple),
    set[int]: st.sets(st.integers()),
    frozenset[str]: st.frozensets(TEXT),
    deque[int]: st.lists(st.integers()).map(deque),
    dict[str, Any]: st.dictionaries(TEXT, PLAIN, max_size=4),
    dict[int, str]: st.dictionaries(st.integers(), TEXT),
    dict[UUID, date]: st.dictionaries(st.uuids(), st.dates(), max_size=4),
    dict[Color, int]: st.dictionaries(st.sampled_from(Color), st.integers()),
    defaultdict[str, int]: st.dictionaries(TEXT, st.integers()).map(lambda members: defaultdict(int, members)),
    Counter[str]: st.lists(st.text("abc", max_size=2)).map(Counter),
    OrderedDict[str, int]: st.dictionaries(TEXT, st.integers(), max_size=1).map(OrderedDict),
    Point: st.builds(Point, x=st.integers(), label=TEXT),
    Movie: st.fixed_dictionaries({"title": TEXT}, optional={"year": st.integers()}),
    Leaf: LEAVES,
    Checked: st.builds(Checked, number=st.integers(), leaf=st.none() | LEAVES),
    Order: ORDERS,
    Order | None: st.none() | ORDERS,
    int | str: st.integers() | TEXT,
    Renamed: st.builds(Renamed, userName=TEXT),
    Open: st.fixed_dictionaries({"name": TEXT, "more": PLAIN}).map(Open.model_validate),
    Names: st.lists(TEXT).map(Names),
    Box[Order]: st.fixed_dictionaries({"content": ORDERS}).map(Box[Order].model_validate),
    Animal: st.builds(Cat, lives=st.integers()) | st.builds(Dog, name=TEXT),
    list[Animal]: st.lists(st.builds(Cat, lives=st.integers()) | st.builds(Dog, name=TEXT), max_size=4),
}
"""By type: values that come back equal."""
