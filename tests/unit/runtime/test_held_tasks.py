"""What a worker holds: slots and ownership, counted apart."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import make_task

from flowworker.runtime.held_tasks import HeldTask, HeldTasks


def test_a_slot_and_ownership_end_apart() -> None:
    held_tasks = HeldTasks(2)
    held_task = held_tasks.add(make_task(1), 0.0)
    assert (held_tasks.free, held_tasks.in_flight) == (1, 1)
    held_tasks.vacate(held_task)  # the handler has returned, its result is not yet written
    assert (held_tasks.free, held_tasks.in_flight, held_tasks.message_ids()) == (2, 1, {1})
    held_tasks.disown(held_task)
    assert (held_tasks.in_flight, held_tasks.all()) == (0, ())


def test_a_handler_past_its_end_keeps_its_slot_but_not_its_message() -> None:
    held_tasks = HeldTasks(1)
    held_task = held_tasks.add(make_task(1), 0.0)
    held_tasks.linger(held_task)
    held_tasks.disown(held_task)
    assert (held_tasks.free, held_tasks.exhausted, held_tasks.message_ids()) == (0, True, frozenset())
    held_tasks.vacate(held_task)
    assert (held_tasks.free, held_tasks.exhausted) == (1, False)


def test_of_two_claims_of_one_message_the_newer_one_counts() -> None:
    held_tasks = HeldTasks(2)
    old = held_tasks.add(make_task(1), 0.0)
    held_tasks.vacate(old)
    new = held_tasks.add(make_task(1, attempt=2), 1.0)
    assert held_tasks.owned() == (new,)
    assert held_tasks.of_messages({1}) == (new,)
    held_tasks.disown(old)
    assert held_tasks.message_ids() == {1}


def test_too_many_unwritten_results_stop_the_claims() -> None:
    held_tasks = HeldTasks(1, unwritten_limit=2)
    for number in range(2):
        held_tasks.vacate(held_tasks.add(make_task(number), 0.0))
    assert held_tasks.free == 0


@given(st.lists(st.tuples(st.sampled_from(["add", "vacate", "disown", "linger"]), st.integers(0, 7)), max_size=60))
def test_the_counts_always_agree_with_what_is_held(moves: list[tuple[str, int]]) -> None:
    held_tasks, known = HeldTasks(8), list[HeldTask]()
    for move, which in moves:
        if move == "add" and held_tasks.free:
            known.append(held_tasks.add(make_task(len(known)), 0.0))
        elif known:
            getattr(held_tasks, move if move != "add" else "vacate")(known[which % len(known)])
        everything = held_tasks.all()
        assert held_tasks.occupied == sum(one.occupying for one in everything)
        assert held_tasks.in_flight == sum(one.owned for one in everything)
        assert held_tasks.lingering == sum(one.lingering and one.occupying for one in everything)
        assert 0 <= held_tasks.free <= 8 - held_tasks.occupied


def test_whatever_may_make_room_says_so() -> None:
    held_tasks = HeldTasks(1, unwritten_limit=1)
    held_task = held_tasks.add(make_task(1), 0.0)
    assert not held_tasks.freed.is_set()
    held_tasks.vacate(held_task)
    assert (held_tasks.free, held_tasks.freed.is_set()) == (0, True)  # the slot is, its result is not written
    held_tasks.freed.clear()
    held_tasks.set_aside(held_task, True)
    assert (held_tasks.free, held_tasks.freed.is_set()) == (1, True)
    held_tasks.set_aside(held_task, False)
    held_tasks.freed.clear()
    held_tasks.disown(held_task)
    assert (held_tasks.free, held_tasks.freed.is_set()) == (1, True)
