"""Laws of hiding secrets: whatever the password, it does not survive; what is no secret does."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowworker.redaction import HIDDEN, redact

VISIBLE = st.characters(exclude_categories=("Z", "C"))
"""Anything that one can type without a space."""

PASSWORDS = st.text(VISIBLE, min_size=6).filter(lambda text: set(text) - set("*"))
PLAIN_WORDS = st.text(st.characters(categories=("Ll", "Lu", "Nd")), min_size=1, max_size=12)
SURROUNDINGS = st.lists(PLAIN_WORDS, max_size=5).map(" ".join)


def survives(password: str, hidden: str, *around: str) -> bool:
    """Whether the password is to be read in the text although nothing around it would spell it anyway."""
    assume(not any(password in text for text in around))
    return password in hidden


@given(before=SURROUNDINGS, user=PLAIN_WORDS, password=PASSWORDS, host=PLAIN_WORDS, after=SURROUNDINGS)
def test_the_password_of_a_uri_never_survives_even_when_nobody_encoded_it(
    before: str, user: str, password: str, host: str, after: str
) -> None:
    hidden = redact(f"{before} postgresql://{user}:{password}@{host}/db {after}")
    assert not survives(password, hidden, before, user, host, after, "postgresql", HIDDEN)
    assert hidden == f"{before} postgresql://{user}:{HIDDEN}@{host}/db {after}"


@given(
    name=st.sampled_from(["password", "PASSWORD", "PGPASSWORD", "sslpassword", "passwd", "pwd", "secret", "api_key"]),
    separator=st.sampled_from(["=", " = ", ": ", "="]),
    password=PASSWORDS,
    after=SURROUNDINGS,
)
def test_the_value_of_a_name_that_means_a_secret_never_survives(
    name: str, separator: str, password: str, after: str
) -> None:
    assume(password[0] not in "'\"")
    hidden = redact(f"host=db {name}{separator}{password} {after}")
    assert not survives(password, hidden, name, after, "host=db")
    assert hidden.endswith(after)


@given(password=st.text(min_size=6).filter(lambda text: set(text) - set("*")), quote=st.sampled_from("'\""))
def test_a_quoted_secret_never_survives_whatever_is_in_it(password: str, quote: str) -> None:
    escaped = password.replace("\\", "\\\\").replace(quote, "\\" + quote)
    hidden = redact(f"password={quote}{escaped}{quote} user=app")
    assert hidden == f"password={HIDDEN} user=app"


@given(text=st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(words=st.lists(PLAIN_WORDS))
def test_text_without_secrets_stays_as_it_is(words: list[str]) -> None:
    text = " ".join(words)
    assume("=" not in text and ":" not in text)
    assert redact(text) == text


@given(text=st.text(), limit=st.integers(0, 600))
def test_a_limit_is_never_exceeded_and_a_cut_is_marked(text: str, limit: int) -> None:
    hidden, short = redact(text), redact(text, limit=limit)
    assert len(short) <= limit
    assert short == hidden or limit == 0 or short.endswith("…")


@given(padding=st.integers(0, 520), password=st.text(st.sampled_from("abcdef"), min_size=8, max_size=40))
def test_a_cut_never_leaves_half_a_password(padding: int, password: str) -> None:
    short = redact("x" * padding + f" postgresql://app:{password}@db", limit=512)
    assert password[:4] not in short


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('password authentication failed for user "app"', None),
        ("https://example.com:8443/path", None),
        ("see https://example.com/a:b for more", None),
        ("postgresql://app@db/main", None),
        ("postgresql://app@db/main?password=abc&sslmode=require", "postgresql://app@db/main?password=***"),
        ("postgres://app:a@b@c/d:e@db:5432,db2/main", "postgres://app:***@db:5432,db2/main"),
        ("redis://:abc@cache", "redis://:***@cache"),
        ('{"password": "a b", "user": "app"}', '{"password": ***, "user": "app"}'),
        ("password='not closed", "password=*** closed"),
    ],
)
def test_examples(text: str, hidden: str | None) -> None:
    assert redact(text) == (text if hidden is None else hidden)


@pytest.mark.parametrize("unit", ["://", "a://b:", "password=", "password='", '"', "password" + " " * 50, "x@:"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        begin = time.perf_counter()
        redact(text)
        return time.perf_counter() - begin

    short = min(seconds(20_000) for _ in range(3))
    assert min(seconds(160_000) for _ in range(3)) < max(short, 0.002) * 32
