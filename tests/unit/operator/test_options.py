"""What a FlowWorker says of options that the database has otherwise than the code."""

from dataclasses import replace

import pytest
from tests.unit.operator.samples import (
    condition,
    event_reasons,
    held,
    later,
    make_spec,
    planned,
    pod,
    revision,
    snapshot,
)

from flowworker.option_change import OptionChange
from flowworker_operator.api.status import LONGEST_MESSAGE
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.snapshot import DatabaseState, Demand

KIND = "OptionsInEffect"
TIMEOUT = OptionChange(step=None, option="timeout", code=30, database=60)
ATTEMPTS = OptionChange(step="fetch", option="max_attempts", code=5, database=None)


def database(*changes: OptionChange) -> DatabaseState:
    return DatabaseState(demand=Demand(), age=0, longest_timeout=60, option_changes=changes)


def test_options_that_differ_are_named_on_one_line_with_what_puts_it_right_and_no_failure() -> None:
    before = held(snapshot(revision(pod("a")), demand=Demand(in_flight=5)), 1)
    same = make_plan(replace(before, database=replace(before.database, option_changes=())))
    differ = make_plan(replace(before, database=replace(before.database, option_changes=(TIMEOUT, ATTEMPTS))))
    found = condition(differ, KIND)
    assert (found.status, found.reason) == ("False", "OptionsDiffer")
    assert found.message == (
        "the options in the database are in force: timeout of the flow is 30 in the code, 60 in the database; "
        "max_attempts of step 'fetch' is 5 in the code, inherited in the database; "
        "`flowworker flows compile --update-options` writes the code's"
    )
    for kind in ("Ready", "Progressing"):
        assert condition(differ, kind) == condition(same, kind)
    assert differ.status is not None
    assert "Stalled" not in {one.type for one in differ.status.conditions}
    assert event_reasons(differ) == event_reasons(same)


def test_the_condition_goes_back_when_the_options_are_written() -> None:
    before = snapshot(revision(pod("a")), database=database(TIMEOUT))
    plan = make_plan(before)
    assert condition(plan, KIND).status == "False"
    after = make_plan(replace(later(before, plan, 60), database=database()))
    assert (condition(after, KIND).status, condition(after, KIND).reason) == ("True", "OptionsMatch")


def test_of_many_options_the_first_are_named_and_the_rest_are_counted() -> None:
    changes = [replace(ATTEMPTS, step=f"step_{number}") for number in range(20)]
    message = condition(planned(revision(pod("a")), database=database(*changes)), KIND).message
    assert "'step_4'" in message
    assert "'step_5'" not in message
    assert "; and 15 more; " in message
    assert message.endswith("writes the code's")


def test_steps_with_the_longest_names_leave_room_for_what_puts_it_right() -> None:
    changes = [replace(TIMEOUT, step="x" * 128, code=2**31 - 1, database=2**31 - 1) for _ in range(20)]
    message = condition(planned(revision(pod("a")), database=database(*changes)), KIND).message
    assert len(message) < LONGEST_MESSAGE
    assert message.endswith("writes the code's")


@pytest.mark.parametrize(
    ("state", "expected"),
    [(DatabaseState(), "Unknown"), (DatabaseState(demand=Demand(), age=0), "Unknown"), (database(), "True")],
    ids=["database not read", "no worker has reported", "the same"],
)
def test_without_a_report_nothing_is_said(state: DatabaseState, expected: str) -> None:
    assert condition(planned(revision(pod("a")), database=state), KIND).status == expected


def test_a_queue_has_its_options_from_the_code() -> None:
    found = condition(planned(revision(pod("a")), spec=make_spec(flow=None, queue="report")), KIND)
    assert (found.status, found.reason) == ("True", "OptionsMatch")
