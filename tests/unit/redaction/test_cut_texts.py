"""A long text is cut before secrets are looked for, and still none is shown in part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.redaction import HIDDEN, redact, remember
from flowworker.redaction.cutting import MARGIN
from flowworker.runtime.execution.failures import MESSAGE_LIMIT, STACKTRACE_LIMIT, clean, describe_failure

LIMIT = 512
SECRET = "hunter2-3fVq8-horse-battery"
FILLER = "word " * 400_000

SECRETS = {
    "a URI": f"postgresql://app:{SECRET}@db/main",
    "a long URI": f"postgresql://app:{SECRET * 300}@db/main",
    "an encoded URI": f"postgresql%3A%2F%2Fapp%3A{SECRET * 300}%40db",
    "a pair": f"password={SECRET}",
    "quoted": f"password='my {SECRET} {SECRET}'",
    "JSON": f'{{"password": "my {SECRET}", "user": "app"}}',
    "a key": f"glpat-{SECRET}",
    "a private key": f"-----BEGIN PRIVATE KEY-----\n{SECRET * 300}\n-----END PRIVATE KEY-----",
}


def parts_of(text: str) -> list[str]:
    return [part for part in ("hunter2", "3fVq8", "horse", "battery") if part in text]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("before", [0, 1, LIMIT - 40, LIMIT - 10, LIMIT, LIMIT + MARGIN - 30, LIMIT + MARGIN - 1])
def test_no_part_of_a_secret_stands_at_the_end_of_what_is_kept(name: str, before: int) -> None:
    short = redact("x" * before + " " + SECRETS[name] + " " + FILLER, limit=LIMIT)
    assert parts_of(short) == []
    assert len(short) <= LIMIT
    assert short.endswith("…")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("after", [0, 1, LIMIT - 40, LIMIT - 10, LIMIT, LIMIT + MARGIN - 30, LIMIT + MARGIN - 1])
def test_no_part_of_a_secret_stands_at_the_start_of_an_end_that_is_kept(name: str, after: int) -> None:
    short = redact(FILLER + " " + SECRETS[name] + " " + "x" * after, limit=LIMIT, keep_end=True)
    assert parts_of(short) == []
    assert len(short) <= LIMIT
    assert short.startswith("…")


def test_a_key_of_which_a_part_is_a_known_secret_is_hidden_as_a_whole() -> None:
    remember("hunter2")
    assert redact(f"with {SECRETS['a key']}, or hunter2-horse") == f"with {HIDDEN}, or {HIDDEN}-horse"


@given(
    hidden=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    between=st.integers(0, 600),
    offset=st.integers(-40, 40),
)
def test_what_was_hidden_makes_no_room_for_half_a_secret(hidden: list[int], between: int, offset: int) -> None:
    start = " ".join(f"password='{'x' * length}' {'y' * between}" for length in hidden)
    text = start + "z " * max((LIMIT + MARGIN + offset - len(start)) // 2, 0) + SECRETS["a URI"] + " " + FILLER
    assert parts_of(redact(text, limit=LIMIT)) == []


def test_a_cut_text_keeps_what_holds_no_secret() -> None:
    text = "ValueError: " + FILLER
    assert redact(text, limit=LIMIT) == text[: LIMIT - 1] + "…"
    assert redact(FILLER + "the end", limit=LIMIT, keep_end=True) == "…" + (FILLER + "the end")[1 - LIMIT :]
    letters = "ValueError: " + "x" * 1_000_000
    assert redact(letters, limit=LIMIT) == letters[: LIMIT - 1] + "…"
    assert redact(f"it was {SECRETS['a private key']} {FILLER}", limit=LIMIT).startswith(
        "it was -----BEGIN PRIVATE KEY"
    )


def test_an_error_of_many_megabytes_becomes_a_failure_of_bounded_size_without_its_secrets() -> None:
    try:
        raise ValueError(f"{SECRETS['a URI']} {FILLER} {SECRETS['a pair']}")
    except ValueError as error:
        failure = describe_failure(error, duration=0.1)
    assert failure.stacktrace is not None
    assert MESSAGE_LIMIT - 100 < len(failure.message) <= MESSAGE_LIMIT
    assert len(failure.stacktrace) <= STACKTRACE_LIMIT
    assert parts_of(failure.message + failure.stacktrace) == []
    assert failure.message.startswith(f"ValueError: postgresql://app:{HIDDEN}@db/main word")


@pytest.mark.parametrize("keep_end", [False, True])
@pytest.mark.parametrize("letter", ["\x00", "\ud800", "\U0001f389"])
def test_what_is_stored_is_never_longer_than_asked_for(letter: str, keep_end: bool) -> None:
    for length in (10, LIMIT, LIMIT + 1, 20_000):
        stored = clean((letter * 9 + " ") * (length // 10) + letter * (length % 10), LIMIT, keep_end=keep_end)
        assert len(stored) == min(length, LIMIT)
        assert "\x00" not in stored
        stored.encode()
