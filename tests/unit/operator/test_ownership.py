"""Who takes from the same queue of the same database, found without a look at every other."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.domain.ownership import MOST_COMPARED, Contenders, Place, age
from flowworker_operator.domain.snapshot import Claim

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def claim(number: int, namespace: str = "shop") -> Claim:
    """The lower the number, the older."""
    created = EPOCH + timedelta(seconds=number // 2)
    name, uid = f"worker-{number}", f"{number:05}"
    return Claim(namespace=namespace, name=name, uid=uid, created_at=created, kind="flow", slug="mail")


def place(connection: str | None = "c", database: str | None = "d", queue: str = "mail") -> Place:
    return Place(queue=queue, connection=connection, database=database)


places = st.builds(
    Place,
    queue=st.sampled_from(["mail", "bills"]),
    connection=st.sampled_from([None, "c", "d"]),
    database=st.sampled_from([None, "one", "two"]),
)


@dataclass(frozen=True)
class Change:
    number: int
    place: Place | None
    """None takes it away."""


changes = st.lists(st.builds(Change, number=st.integers(0, 11), place=st.none() | places), max_size=40)


def namespace_of(number: int) -> str:
    return "shop" if number % 3 else "other"


def rivals(mine: Claim, filed: dict[Claim, Place]) -> set[Claim]:
    """Those older by the plain rule: every one is looked at."""
    here = filed[mine]
    return {
        one
        for one, there in filed.items()
        if one.namespace == mine.namespace and there.queue == here.queue and age(one) < age(mine)
        and here.connection is not None and there.connection is not None
        and (here.connection == there.connection or (here.database is not None and here.database == there.database))
    }  # fmt: skip


@given(changes)
def test_the_oldest_is_found_whatever_came_and_went(history: Sequence[Change]) -> None:
    contenders, filed = Contenders(), dict[Claim, Place]()
    for change in history:
        one = claim(change.number, namespace_of(change.number))
        if change.place is None:
            contenders.drop(one)
            filed.pop(one, None)
        else:
            contenders.put(one, change.place)
            filed[one] = change.place
    for mine, here in filed.items():
        older, found = rivals(mine, filed), set(contenders.older(mine))
        assert found <= older
        assert min(found, key=age, default=None) == min(older, key=age, default=None)
        others = {there.database for one, there in filed.items() if one.namespace != mine.namespace
                  and there.queue == here.queue}  # fmt: skip
        assert contenders.elsewhere(mine) is (here.database is not None and here.database in others)


def test_one_whose_database_is_not_known_yet_may_turn_out_to_be_older() -> None:
    contenders = Contenders()
    contenders.put(claim(0), place("one", None))
    contenders.put(claim(2), place("two"))
    contenders.put(claim(4), place("three"))
    assert [contenders.may_be_older(claim(number)) for number in (0, 2, 4)] == [False, True, True]
    contenders.put(claim(0), place("one", "elsewhere"))
    assert not contenders.may_be_older(claim(2))
    contenders.put(claim(2), place("two", None))
    assert contenders.may_be_older(claim(2)), "what is not known of oneself is not known of an older one"
    contenders.put(claim(2), place(None))
    assert not contenders.may_be_older(claim(2))


def test_copies_of_one_server_are_compared_with_a_few() -> None:
    contenders = Contenders()
    for number in range(100):
        contenders.put(claim(2 * number), place(f"server-{number}"))
    assert list(contenders.older(claim(198))) == [claim(2 * number) for number in range(MOST_COMPARED)]


def steps(work: Callable[[], None]) -> int:
    """Calls of functions, of C's too."""
    counted = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def look_at(number: int) -> int:
    """Steps in which so many FlowWorkers of one queue and database are noted, looked at and forgotten."""
    claims = [claim(one, f"namespace-{one % 7}") for one in range(number)]

    def work() -> None:
        contenders = Contenders()
        for one in claims:
            contenders.put(one, place(f"role-{one.name}", None))
        for one in claims:
            contenders.put(one, place(f"role-{one.name}"))
        for one in claims:
            next(contenders.older(one), None)
            contenders.may_be_older(one)
            contenders.elsewhere(one)
        for one in claims:
            contenders.drop(one)

    return steps(work)


def test_ten_times_as_many_take_ten_times_the_work() -> None:
    assert look_at(1000) < 15 * look_at(100)
