"""Which secrets of its process redaction knows, for how long, and in which forms it finds them."""

import logging
from base64 import b64encode
from urllib.parse import quote

import pytest

from flowworker.redaction.known import MOST_GIVEN, SHORTEST, Known

MANY = {f"SERVICE_{n}_PASSWORD": f"word-of-{n}-zq" for n in range(500)}


def test_every_secret_of_an_environment_is_known_however_many_there_are() -> None:
    known = Known(MANY)
    for secret in MANY.values():
        assert known.hide(f"it is {secret}.") == "it is ***."


def test_a_child_process_knows_all_that_its_parent_knows() -> None:
    known = Known({})
    known.keep(*Known(MANY).all)
    assert known.all == tuple(MANY.values())


def test_passwords_in_use_push_no_secret_of_the_environment_out() -> None:
    known = Known({"API_TOKEN": "lasting-token"})
    for n in range(MOST_GIVEN + 10):
        known.add(f"rotated-{n}-zq")
    assert known.hide("lasting-token") == "***"


def test_the_password_in_use_stays_whatever_came_between() -> None:
    known = Known({})
    for n in range(2 * MOST_GIVEN):
        known.add("still-in-use")
        known.add(f"rotated-{n}-zq")
    assert known.hide("still-in-use") == "***"


def test_the_oldest_of_many_passwords_is_not_forgotten_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    known = Known({})
    with caplog.at_level(logging.WARNING):
        for n in range(MOST_GIVEN):
            known.add(f"rotated-{n}-zq")
        assert caplog.records == []
        assert known.hide("rotated-0-zq") == "***"
        known.add("one-more-zq")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "rotated" not in caplog.text
    assert len(known.all) == MOST_GIVEN


def test_a_secret_within_another_leaves_nothing_of_it() -> None:
    for order in (["horse", "horse-battery"], ["horse-battery", "horse"]):
        known = Known({})
        for secret in order:
            known.add(secret)
        assert known.hide("it is horse-battery, or horse") == "it is ***, or ***"


def test_a_secret_is_no_part_of_a_longer_word() -> None:
    known = Known({"DB_PASSWORD": "test"})
    assert known.hide("latest tests testtest a-test_test, test1 test") == "latest tests testtest a-***_***, test1 ***"


def test_secrets_that_overlap_are_hidden_as_one() -> None:
    known = Known({})
    known.add("correct-horse-")
    known.add("-horse-battery")
    assert known.hide("correct-horse-battery!") == "***!"


@pytest.mark.parametrize("secret", ["", "a", "ab", "a" * (SHORTEST - 1), "*" * 8])
def test_what_is_too_short_is_not_looked_for(secret: str) -> None:
    known = Known({"DB_PASSWORD": secret})
    known.add(secret)
    assert known.all == ()


@pytest.mark.parametrize("value", ["true", "off", "required", "12345", "disabled"])
def test_a_switch_is_no_secret_whatever_its_name(value: str) -> None:
    assert Known({"USE_TOKEN": value}).all == ()


SECRET = 'pä s<s>&"w/ö\\rd'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower().replace("%c3%a4", "%c3%a4"),
        SECRET.replace("\\", "\\\\").replace('"', '\\"'),
        SECRET.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        b64encode(SECRET.encode()).decode(),
    ],
    ids=["plain", "percent", "small percent", "JSON", "XML", "Base64"],
)
def test_a_secret_is_found_in_each_form_in_which_it_travels(form: str) -> None:
    known = Known({"DB_PASSWORD": SECRET})
    assert known.hide(f"({form})").strip("=()") == "***"


def test_a_variable_that_is_no_text_is_known_too() -> None:
    known = Known({"DB_PASSWORD": "w\udcffrd-zq"})
    assert known.hide("it is w\udcffrd-zq.") == "it is ***."


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("https://abc123def@sentry.example.com/1", ("abc123def",)),
        ("redis://abc123def@cache", ("abc123def",)),
        ("postgresql://app-user@db/main", ()),
    ],
)
def test_a_token_alone_in_a_uri_is_known_and_a_user_is_not(value: str, secrets: tuple[str, ...]) -> None:
    assert Known({"SOME_ADDRESS": value}).all == secrets
