"""Who belongs to a process."""

import os

import pytest

from flowworker.runtime.execution.families import Entry, family, parse_stat, process_table


def entry(pid: int, parent: int = 1, group: int = 1, session: int = 1) -> Entry:
    return Entry(pid=pid, parent=parent, group=group, session=session)


def test_members_of_session_and_group_and_all_descendants_belong_to_it() -> None:
    table = [
        entry(1, parent=0),
        entry(10, group=10, session=10),
        entry(11, parent=10, group=10, session=10),
        entry(12, parent=1, group=12, session=10),
        entry(13, parent=11, group=13, session=13),
        entry(14, parent=13, group=13, session=13),
        entry(20, group=20, session=20),
    ]
    assert family(10, table) == {10, 11, 12, 13, 14}


def test_members_are_found_when_the_process_itself_has_gone() -> None:
    assert family(10, [entry(1, parent=0), entry(11, session=10), entry(12, parent=11, session=12)]) == {11, 12}


@pytest.mark.parametrize("name", ["sleep", "a b", "a) S 1 1 1 (b", "(((", ")"])
def test_a_name_may_hold_anything(name: str) -> None:
    assert parse_stat(f"7 ({name}) S 6 5 4 0 -1") == Entry(pid=7, parent=6, group=5, session=4)


def test_an_ended_process_is_none() -> None:
    assert parse_stat("7 (sleep) Z 6 5 4 0 -1") is None


def test_the_table_holds_this_process() -> None:
    assert os.getpid() in {one.pid for one in process_table()}
