"""How long pods may take to stop: with timeouts that become known late, and without ever cutting a worker short."""

from dataclasses import replace

import pytest
from tests.unit.operator.samples import NAME, condition, drained, make_spec, planned, pod, report, revision, snapshot

from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.snapshot import DatabaseState, Demand, RevisionState, WorkerState

GRACE_FIELD = "spec.template.spec.terminationGracePeriodSeconds"
DRAIN_FIELD = "spec.worker.drainTimeoutSeconds"

UNKNOWN = DatabaseState(demand=Demand(), age=0)
LONG = DatabaseState(demand=Demand(), age=0, longest_timeout=7200)


def older(grace: int) -> RevisionState:
    return revision(pod("o"), name="report-bbbb", revision="bbbb", grace=grace)


def test_a_new_revision_gets_what_the_timeouts_ask_for() -> None:
    (create,) = planned(database=LONG).create
    assert create.grace == 7215


def test_while_the_timeouts_are_unknown_a_new_revision_gets_no_less_than_the_ones_there_are() -> None:
    (create,) = planned(older(7215), database=DatabaseState()).create
    assert create.grace == 7215
    (create,) = planned(older(20), database=DatabaseState()).create
    assert create.grace == 75


@pytest.mark.parametrize(
    ("spec", "grace"),
    [
        (make_spec(template={"spec": {"terminationGracePeriodSeconds": 40}}), 40),
        (make_spec(worker={"drainTimeoutSeconds": 30}), 45),
    ],
    ids=["grace period", "drain timeout"],
)
def test_what_the_spec_says_is_never_a_guess(spec: object, grace: int) -> None:
    (create,) = planned(older(7215), database=DatabaseState(), spec=spec).create
    assert create.grace == grace


def test_known_timeouts_are_not_stretched_to_those_of_older_revisions() -> None:
    (create,) = planned(older(7215)).create
    assert create.grace == 75


def test_a_revision_without_workers_gets_the_time_that_has_become_known_and_only_once() -> None:
    empty = revision(grace=75)
    plan = planned(empty, database=LONG)
    assert [(repair.name, repair.grace) for repair in plan.repair] == [(NAME, 7215)]
    given = planned(replace(empty, grace=7215), database=LONG)
    assert given.repair == ()
    assert condition(given, "DrainsInTime").status == "True"


def test_a_proof_that_has_ended_goes_before_the_time_is_given() -> None:
    going = revision(pod("a", ending=True), replicas=0, grace=75)
    assert [repair.grace for repair in planned(going, database=LONG).repair] == [7215]


@pytest.mark.parametrize(
    "item",
    [
        revision(pod("a")),
        revision(pod("a"), proven=False),
        revision(drained("a")),
        revision(pod("a", ready=False, report=None), proven=False),
        revision(pod("a"), replicas=0),
        revision(replicas=1),
        revision(pod("a", report=report(WorkerState.RUNNING, in_flight=3)), pod("b")),
    ],
    ids=["idle", "proof", "drained", "starting", "not gone yet", "not there yet", "busy"],
)
def test_a_revision_with_workers_keeps_the_time_it_has(item: RevisionState) -> None:
    """Kubernetes would replace its pods, without a drain."""
    plan = planned(item, database=LONG)
    assert plan.repair == ()
    assert condition(plan, "DrainsInTime").status == "False"


@pytest.mark.parametrize("database", [UNKNOWN, DatabaseState(demand=Demand(), age=0, longest_timeout=5)])
def test_time_is_never_taken_away(database: DatabaseState) -> None:
    assert planned(revision(grace=300), database=database).repair == ()


def test_what_is_not_known_is_no_reason_to_give_more() -> None:
    assert planned(revision(grace=35), database=UNKNOWN).repair == ()


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
def test_nothing_is_given_while_nothing_may_be_changed(mode: str) -> None:
    assert planned(revision(grace=75), database=LONG, spec=make_spec(scaling={"mode": mode})).repair == ()


def test_an_older_revision_is_left_alone() -> None:
    """Only the one asked for can be rendered."""
    old = revision(name="report-bbbb", revision="bbbb", grace=75)
    assert planned(old, revision(pod("a"), grace=7215), database=LONG).repair == ()


def test_a_repair_at_zero_gives_the_time_too() -> None:
    (repair,) = planned(revision(grace=75, drifted=True), database=LONG).repair
    assert (repair.grace, repair.reason) == (7215, "it was changed by another client")


def test_a_repair_with_workers_keeps_the_time_they_have() -> None:
    (repair,) = planned(revision(pod("a"), drifted=True), database=LONG).repair
    assert repair.grace == 75


def test_the_time_is_given_before_the_first_worker_comes() -> None:
    plan = make_plan(snapshot(revision(grace=75), database=replace(LONG, demand=Demand(startable=1))))
    assert [repair.grace for repair in plan.repair] == [7215]
    assert [scale.replicas for scale in plan.scale] == [1], "refused by its version once the time is given, or done"


def test_too_little_time_names_how_it_gets_right() -> None:
    message = condition(planned(revision(pod("a")), database=LONG), "DrainsInTime").message
    assert "75 s" in message
    assert "7200 s" in message
    assert "once no worker runs" in message
    assert f"{GRACE_FIELD}: 7215" in message


@pytest.mark.parametrize(
    ("spec", "grace", "field"),
    [
        (make_spec(template={"spec": {"terminationGracePeriodSeconds": 40}}), 40, GRACE_FIELD),
        (make_spec(worker={"drainTimeoutSeconds": 30}), 45, DRAIN_FIELD),
    ],
    ids=["grace period", "drain timeout"],
)
def test_too_little_time_by_the_spec_names_the_field(spec: object, grace: int, field: str) -> None:
    message = condition(planned(revision(grace=grace), database=LONG, spec=spec), "DrainsInTime").message
    assert f"raise or remove {field}" in message
    assert "once no worker runs" not in message
