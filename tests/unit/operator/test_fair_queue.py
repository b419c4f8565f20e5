"""Slots are shared fairly, whatever one group asks for."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.fair_queue import FairQueue


def queue(slots: int, **waiting: int) -> FairQueue[str, int]:
    made: FairQueue[str, int] = FairQueue(slots)
    for group, count in waiting.items():
        for number in range(count):
            made.put(group, number)
    return made


def taken(fair: FairQueue[str, int]) -> list[tuple[str, int]]:
    found = list[tuple[str, int]]()
    while (one := fair.take()) is not None:
        found.append(one)
    return found


def test_an_empty_queue_has_nothing() -> None:
    assert queue(4).take() is None


def test_a_group_is_served_in_its_own_order_and_leaves_half_of_the_slots() -> None:
    assert taken(queue(8, a=10)) == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]


def test_groups_get_half_of_what_the_others_leave() -> None:
    fair = queue(8, a=10)
    taken(fair)
    for group in ("b", "c", "d"):
        for number in range(10):
            fair.put(group, number)
    assert Counter(group for group, _ in taken(fair)) == {"b": 1, "c": 1, "d": 1}


def test_with_one_slot_groups_take_turns() -> None:
    fair, served = queue(1, a=3, b=2, c=1), list[str]()
    while (one := fair.take()) is not None:
        served.append(one[0])
        fair.release(one[0])
    assert served == ["a", "b", "c", "a", "b", "a"]


@given(
    slots=st.integers(1, 64),
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200),
)
def test_whatever_was_asked_for_a_group_that_comes_is_served_at_once_where_slots_are_many(
    slots: int, steps: list[tuple[str, bool]]
) -> None:
    fair: FairQueue[str, int] = FairQueue(slots)
    held: Counter[str] = Counter()
    for number, (group, ends) in enumerate(steps):
        if ends and held[group]:
            fair.release(group)
            held[group] -= 1
        else:
            fair.put(group, number)
        held.update(one for one, _ in taken(fair))
        assert held.total() <= slots
    fair.put("new", 0)
    served = ("new", 0) in taken(fair)
    assert served == (held.total() < slots)
    assert served or slots < 2**4, "four groups at most were there, each with half of what the others left"


class Counted(str):
    """A group that counts how often any of them is looked up."""

    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()


def test_what_a_slot_costs_does_not_grow_with_the_groups_that_wait() -> None:
    fair: FairQueue[Counted, int] = FairQueue(4)
    for number in range(500):
        fair.put(Counted(number), number)
        if number < 4:
            fair.take()
    Counted.looks, served = 0, 0
    fair.release(Counted(0))
    while (one := fair.take()) is not None:
        fair.release(one[0])
        served += 1
    assert served == 496
    assert Counted.looks < 40 * served
