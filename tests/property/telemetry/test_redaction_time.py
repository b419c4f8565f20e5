"""However hostile a text, hiding secrets in it takes time in proportion to its length, and none where it is cut.

Times are compared with others of the same run only: of a text four times as long, or of plain words.
"""

import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowworker.redaction import redact
from flowworker.redaction.plain_values import LONGEST_TEXT, shown
from flowworker.runtime.execution.failures import MESSAGE_LIMIT, clean

SHORT, LONG = 25_000, 100_000
MOST_GROWTH = 9
"""Times; in proportion it is 4, and 16 where it grows with the square."""
SHORTEST_TIME = 0.002
"""Seconds; less is noise."""
MEGABYTE = 1_000_000
MOST_TIMES = 25
"""What a hostile text may cost, in plain words of the same length."""

PIECES = [
    " ", "  ", "\t", "\n", "a", "A", "7", "_", "-", ".", "/", "\\", "'", '"', "`", "{", "}", "[", "]", "(", ")", "<",
    ">", "=", ":", "@", "?", "#", "&", ";", ",", "%", "$", "|", "+", "\u200b", "\uff1a", "\x1b[31m", "password",
    "pass", "pw", "token", "secret_", "api key", "_key", "sessi", "value", "name", "key", "id", "Authorization: ",
    "cookie", "x-", "bearer ", "basic ", "://", "https://", "postgres://a:", "%3A%2F%2F", "%40", "%253A%252F%252F",
    "eyJ", "AKIA", "SG.", "key-", "SK", "$2b$", "SCRAM-SHA-256$1:", "PRIVATE KEY", "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----", "Private-Lines: 2\n", "kty", "<password>", "<![CDATA[", "]]>", "--password ",
    "-u a:", "-p", "mysql", "docker", "login", "redis-cli", "zip", "IDENTIFIED BY ", "PASSWORD ", "PGPASSWORD ",
    "ENV ", "machine ", "$x$", "is '", "sig=", "?sig=", "<cookie a=", "jdbc:oracle:thin:", "Key (a)=(",
    "Failing row contains (", "input_value=", 'Token "', '" is invalid', 'value "', "JSON data, line 1: ",
    'invalid input syntax for type a: "', "invalid input for query argument $1: ",
]  # fmt: skip
ODD = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
AROUND = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)


def seconds(work: Callable[[str], object], text: str) -> float:
    """Of one call, on this thread's own clock."""
    begin = time.thread_time()
    work(text)
    return time.thread_time() - begin


def fastest(work: Callable[[str], object], text: str) -> float:
    """Without what else the machine did."""
    return min(seconds(work, text) for _ in range(3))


def repeated(unit: str, length: int) -> str:
    return unit * (length // len(unit))


def grows_in_proportion(before: str, unit: str, after: str) -> bool:
    short, long = (before + repeated(unit, length) + after for length in (SHORT, LONG))
    if seconds(redact, long) < SHORTEST_TIME * MOST_GROWTH:
        return True
    return fastest(redact, long) < max(fastest(redact, short), SHORTEST_TIME) * MOST_GROWTH


@given(before=AROUND, unit=ODD, after=AROUND)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_time_grows_in_proportion_to_the_length(before: str, unit: str, after: str) -> None:
    assert grows_in_proportion(before, unit, after)


@pytest.mark.parametrize(
    ("before", "unit", "after"),
    [
        ("password: x", " ", ""),
        ("password: x", " a", ""),
        ("password", " ", "="),
        ("password=x", " a", ""),
        ("", "-eyJa", ""),
        ("", "_eyJ", "."),
        ("", "postgres://a:", " @"),
        ("", "Failing row contains (", ""),
        ("", 'Token "', ""),
        ('Token "a" is invalid\n', 'Token "', ""),
        ("password=\\'", "\\", ""),
        ("", "Key (a)=(", ""),
        ("<password>", "<![CDATA[", ""),
    ],
)
def test_texts_whose_time_grew_with_the_square_of_their_length_are_proportional(
    before: str, unit: str, after: str
) -> None:
    assert grows_in_proportion(before, unit, after)


@pytest.mark.parametrize("unit", ["%zip", "\uff1azip", "zip://", ",redis-cli", "mysql ", "docker ", "config set "])
def test_a_line_of_commands_without_their_options_costs_little_more_than_one_of_plain_words(unit: str) -> None:
    hostile = fastest(shown, repeated(unit, LONGEST_TEXT))
    plain = fastest(shown, repeated("plain words ", LONGEST_TEXT))
    assert hostile < max(plain, SHORTEST_TIME) * MOST_TIMES


@pytest.mark.parametrize("unit", [" ", "'", '"', "=", ":", "{", "a", "@", "/", "c2Vj+/", "password: x ", "a://b:"])
@pytest.mark.parametrize("keep_end", [False, True])
def test_an_error_of_a_megabyte_that_is_cut_costs_no_more_than_plain_words_that_are_not(
    unit: str, keep_end: bool
) -> None:
    def cleaned(text: str) -> str:
        return clean(text, MESSAGE_LIMIT, keep_end=keep_end)

    hostile = fastest(cleaned, "password: x" + repeated(unit, MEGABYTE) + "password: x")
    plain = fastest(redact, repeated("plain words ", MEGABYTE))
    assert hostile < max(plain, SHORTEST_TIME) * MOST_GROWTH
