"""Bounds on memory and on frequency."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.bounded import RateLimit, Recent, Shares, TokenBucket, take_token


def test_the_eldest_is_let_go() -> None:
    recent: Recent[str, int] = Recent(2)
    for key, value in [("a", 1), ("b", 2), ("c", 3)]:
        recent.set(key, value)

    assert [recent.get(key) for key in "abc"] == [None, 2, 3]


def test_what_is_asked_for_stays_young() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.set("a", 1)
    recent.set("b", 2)
    recent.get("a")
    recent.set("c", 3)

    assert [recent.get(key) for key in "abc"] == [1, None, 3]


def test_forgetting_what_is_not_there_is_fine() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.set("a", 1)
    recent.drop("a")
    recent.drop("a")

    assert len(recent) == 0


def filled(size: int, **shares: int) -> Shares[int, str]:
    """A mapping in which namespaces have kept so many values, one namespace after the other."""
    made: Shares[int, str] = Shares(size)
    for namespace, number in shares.items():
        for key in range(number):
            made.set(namespace, key, f"{namespace}-{key}")
    return made


def test_a_namespace_displaces_nothing_of_one_that_has_less() -> None:
    shares = filled(10, quiet=3, loud=1000)

    assert len(shares) == 10
    assert [shares.get("quiet", key) for key in range(3)] == ["quiet-0", "quiet-1", "quiet-2"]
    assert [shares.get("loud", key) for key in (0, 992, 993, 999)] == [None, None, "loud-993", "loud-999"]


def test_a_namespace_that_comes_late_gets_its_share() -> None:
    shares = filled(10, loud=1000, late=5)

    assert [shares.get("late", key) for key in range(5)] == [f"late-{key}" for key in range(5)]


def test_what_gave_way_is_returned() -> None:
    shares = filled(2, one=2)

    assert [shares.set("one", 1, "same"), shares.set("one", 2, "more")] == [None, "one-0"]


def test_namespaces_take_turns_and_each_is_taken_from_in_order() -> None:
    shares = filled(10, one=3, two=1)
    shares.set("two", 9, "put back", first=True)

    assert [shares.take() for _ in range(5)] == ["one-0", "put back", "one-1", "two-0", "one-2"]
    with pytest.raises(KeyError):
        shares.take()


def test_what_is_not_wanted_any_more_is_forgotten_where_it_was_looked_for() -> None:
    shares = filled(10, one=3, two=3)
    shares.retain(lambda value: value.endswith("0"), namespace="one")
    shares.drop("two", 2)
    shares.drop("two", 7)

    assert shares.values() == ["one-0", "two-0", "two-1"]
    assert len(shares) == 3


def test_a_burst_is_allowed_and_then_a_trickle() -> None:
    allowance = RateLimit(burst=2, per_second=0.5)
    bucket = take_token(None, allowance, 0)
    bucket = take_token(bucket, allowance, 0)
    assert bucket is not None

    assert take_token(bucket, allowance, 1.9) is None
    assert take_token(bucket, allowance, 2) == TokenBucket(left=0, at=2)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_no_more_than_the_allowance_is_ever_spent(pauses: list[float]) -> None:
    allowance = RateLimit(burst=5, per_second=0.1)
    now, count, bucket = 0.0, 0, None
    for pause in pauses:
        now += pause
        after = take_token(bucket, allowance, now)
        if after is not None:
            count, bucket = count + 1, after

    assert count <= allowance.burst + now * allowance.per_second + 1e-6


@pytest.mark.parametrize("idle", [1e3, 1e9])
def test_patience_does_not_pile_up(idle: float) -> None:
    allowance = RateLimit(burst=3, per_second=1)
    bucket = take_token(TokenBucket(left=0, at=0), allowance, idle)

    assert bucket is not None
    assert bucket.left == allowance.burst - 1
