"""What a server says is shown short, on one line, without secrets, and cannot move a terminal."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.domain.words import WINDOW, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("bell\x07 null\x00 delete\x7f c1\x9b", "bell null delete c1"),
        ("left\u202eright\u2066 mark\u200e joined\u200b", "leftright mark joined"),
        ("schöne Grüße, 你好", "schöne Grüße, 你好"),
        ("pass\u200bword=hunter2", "password=***"),
        ("postgresql://u:hun\x00ter2@db/app", "postgresql://u:***@db/app"),
    ],
)
def test_what_draws_nothing_is_left_out(text: str, expected: str) -> None:
    assert shown(text, limit=100) == expected


@given(st.text(), st.integers(1, 600))
def test_it_is_never_longer_than_asked_for_and_prints(text: str, limit: int) -> None:
    found = shown(text, limit=limit)
    assert len(found) <= limit
    assert found.isprintable()


def test_a_text_of_any_length_takes_no_time() -> None:
    text = "a word " * 3_000_000
    began = time.thread_time()
    found = shown(text, limit=512)
    assert time.thread_time() - began < 0.05
    assert len(found) == 512


@pytest.mark.parametrize("at", range(WINDOW - 20, WINDOW + 1))
def test_a_secret_at_the_edge_of_what_is_looked_at_is_not_shown_in_part(at: int) -> None:
    secret = "postgresql://u:hunter2hunter2@db/app"
    filler = "password='" + "x" * (at - 20) + "' "
    found = shown(filler + secret + " and more" * 100, limit=512)
    assert "hunter" not in found
    assert found.startswith("password=***")
