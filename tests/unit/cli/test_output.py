from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.cli.output import Column, ago, as_json, as_table, one_line, span, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    value_json: bytes | None = None
    more: tuple[UUID, ...] = ()


COLUMNS: Sequence[Column[Row]] = (
    Column(title="NAME", cell=lambda row: row.name),
    Column(title="VALUE", cell=lambda row: row.value_json and row.value_json.decode(), right=True),
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0ms"),
        (0, "0ms"),
        (0.35, "350ms"),
        (4.25, "4.2s"),
        (200, "3m20s"),
        (3600, "1h0m"),
        (18_180, "5h3m"),
        (187_200, "2d4h"),
    ],
)
def test_spans_show_their_two_largest_parts(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_moments_are_shown_in_utc() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert stamp(moment) == "2026-01-02T03:04:05Z"
    assert stamp(None) == ago(None, moment) == "-"
    assert ago(moment, moment + timedelta(seconds=90)) == "1m30s"


def test_json_fields_become_part_of_the_document() -> None:
    shown = orjson.loads(as_json([Row(name="a", value_json=b'{"n": 1}', more=(UUID(int=1),)), Row(name="b")]))
    assert shown == [
        {"name": "a", "value": {"n": 1}, "more": ["00000000-0000-0000-0000-000000000001"]},
        {"name": "b", "value": None, "more": []},
    ]


def test_numbers_too_large_for_most_parsers_stay_exact() -> None:
    assert "123456789012345678901234567890" in as_json(Row(name="a", value_json=b"123456789012345678901234567890"))


def test_tables_are_aligned() -> None:
    assert as_table(COLUMNS, [Row(name="long name", value_json=b"1"), Row(name="b", value_json=b"12345678")]) == (
        "NAME          VALUE\n"
        "long name         1\n"
        "b          12345678"
    )  # fmt: skip


@given(st.lists(st.text(max_size=200), max_size=10))
def test_a_table_has_one_line_per_row_whatever_the_cells_hold(names: list[str]) -> None:
    table = as_table(COLUMNS, [Row(name=name) for name in names])
    assert len(table.split("\n")) == len(names) + 1


@given(st.text(max_size=300), st.integers(min_value=1, max_value=100))
def test_one_line_is_one_line_and_short(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
