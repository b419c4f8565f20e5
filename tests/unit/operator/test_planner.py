"""What is planned in one situation after another."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.samples import (
    ME,
    NAME,
    NOW,
    TICK,
    condition,
    drained,
    event_reasons,
    held,
    later,
    make_spec,
    planned,
    pod,
    report,
    revision,
    snapshot,
    stored,
)

from flowworker_operator.api.conditions import Reason
from flowworker_operator.bounded import take_token
from flowworker_operator.domain.events import draining
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.reporting import WRITES
from flowworker_operator.domain.snapshot import (
    BudgetState,
    CompilerState,
    ContainerState,
    DatabaseState,
    Demand,
    Fault,
    Moment,
    Orphan,
    PodState,
    RevisionState,
    Snapshot,
    WorkerState,
)

UNREACHABLE = Fault(reason=Reason.DATABASE_UNREACHABLE, message="no answer from db:5432")


def test_a_new_resource_gets_one_pod_to_prove_itself_even_with_nothing_to_do() -> None:
    plan = planned(budget=BudgetState())
    (create,) = plan.create
    assert (create.name, create.replicas, create.grace) == (NAME, 1, 75)
    assert plan.budget is not None
    assert plan.budget.action == "apply"
    assert (condition(plan, "Ready").status, condition(plan, "Ready").reason) == ("False", "Proving")


OWNED = {"database": {"secretRef": {"name": "postgres-app"}, "ownerSecretRef": {"name": "owner"}}}


def compiling(**changes: Any) -> CompilerState:
    made = pod("report-aaaa-compile", report=None, created_at=NOW - timedelta(seconds=20))
    return replace(CompilerState(revision="aaaa", pod=made), **changes)


def owned(*revisions: RevisionState, **changes: Any) -> Plan:
    return planned(*revisions, spec=make_spec(**OWNED), **changes)


def test_a_flow_is_created_before_the_first_pod_of_a_revision_and_once() -> None:
    plan = owned()
    assert [(step.pod, step.revision) for step in plan.compile] == [("report-aaaa-compile", "aaaa")]
    assert plan.create == ()
    plan = owned(compilers=(compiling(),))
    assert (plan.compile, plan.create, plan.remove) == ((), (), ())
    assert condition(plan, "Progressing").message == "waiting for pod report-aaaa-compile to create flow 'report'"
    plan = owned(compilers=(compiling(done=True),))
    assert (plan.compile, [step.name for step in plan.create], plan.remove) == ((), [NAME], ())
    plan = owned(revision(pod("a"), proven=False), compilers=(compiling(done=True),))
    assert (plan.compile, plan.create, [step.uid for step in plan.remove]) == ((), (), ["uid-report-aaaa-compile"])


def test_a_pod_that_compiles_for_another_revision_or_was_evicted_is_removed() -> None:
    other = compiling(revision="bbbb")
    evicted = compiling(pod=replace(compiling().pod, ending=True, ready=False))
    assert len(owned(compilers=(other,)).remove) == 1
    assert len(owned(compilers=(evicted,)).remove) == 1
    assert owned(compilers=(replace(other, leaving=True), compiling(done=True))).remove == ()


def test_what_keeps_a_flow_from_being_created_is_reported_and_fails_at_the_deadline() -> None:
    container = ContainerState(name="flowworker-compile", exit_code=77, ended_message="permission denied")
    failing = replace(compiling().pod, ready=False, containers=(container,))
    plan = owned(compilers=(compiling(pod=failing),))
    assert (condition(plan, "Ready").reason, condition(plan, "Progressing").status) == ("DatabaseRefused", "True")
    late = replace(failing, created_at=NOW - timedelta(seconds=601))
    progressing = condition(owned(compilers=(compiling(pod=late),)), "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "DatabaseRefused")
    assert "did not create flow 'report' within 600 s" in progressing.message


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
def test_no_flow_is_created_while_nothing_may_be_changed(mode: str) -> None:
    assert planned(spec=make_spec(**OWNED, scaling={"mode": mode})).compile == ()


def test_a_pod_that_is_ready_and_reports_proves_its_revision_and_the_rest_follow() -> None:
    plan = planned(revision(pod("a"), proven=False), demand=Demand(startable=60))
    assert [prove.name for prove in plan.prove] == [NAME]
    assert [scale.replicas for scale in plan.scale] == [3]
    assert condition(plan, "Ready").status == "True"


@pytest.mark.parametrize(
    "candidate",
    [
        pod("a", ready=False),
        pod("a", report=None),
        pod("a", report=report(slug="other")),
        pod("a", report=report(WorkerState.STARTING)),
        pod("a", ending=True),
    ],
    ids=["not ready", "silent", "another flow", "starting", "ending"],
)
def test_anything_less_is_no_proof(candidate: object) -> None:
    plan = planned(revision(candidate, proven=False))  # type: ignore[arg-type]
    assert (plan.prove, plan.scale) == ((), ())


def test_a_converged_resource_needs_nothing_and_writes_nothing() -> None:
    first = snapshot(revision(pod("a"), pod("b")), demand=Demand(in_flight=20))
    plan = make_plan(first)
    assert plan.status is not None
    second = later(first, plan)
    for _ in range(5):
        plan = make_plan(second)
        assert plan.empty
        second = later(second, plan, seconds=20)


def test_a_proof_pod_with_nothing_to_do_is_drained_before_it_goes() -> None:
    first = held(snapshot(revision(pod("a"), proven=False)), 0)
    plan = make_plan(first)
    assert [drain.pod for drain in plan.drain] == ["a"]
    assert plan.scale == ()
    plan = make_plan(held(snapshot(revision(drained("a"))), 0))
    assert [(mark.pod, mark.cost) for mark in plan.mark] == [("a", "-1000")]
    assert plan.scale == ()
    plan = make_plan(held(snapshot(revision(drained("a", marked=True))), 0))
    assert [(scale.replicas, scale.resource_version) for scale in plan.scale] == [(0, "7")]


def test_load_that_returns_takes_the_drain_and_the_cost_back() -> None:
    plan = planned(revision(drained("a", marked=True), pod("b")), demand=Demand(startable=40))
    assert [release.pod for release in plan.end_drain] == ["a"]
    assert [(mark.pod, mark.cost) for mark in plan.mark] == [("a", None)]
    assert (plan.drain, plan.scale) == ((), ())


def test_an_unreachable_database_freezes_everything_and_says_so() -> None:
    database = DatabaseState(demand=Demand(), age=60, fault=UNREACHABLE, longest_timeout=60)
    plan = planned(revision(drained("a", marked=True), pod("b")), database=database)
    assert (plan.scale, plan.drain, plan.mark) == ((), (), ())
    assert condition(plan, "DatabaseReachable").message == UNREACHABLE.message
    assert condition(plan, "Ready").reason == "DatabaseUnreachable"
    assert condition(plan, "ScalingActive").reason == "Unknown"


def test_one_failed_reading_is_a_hiccup() -> None:
    database = DatabaseState(demand=Demand(), age=5, fault=UNREACHABLE, longest_timeout=60)
    assert condition(planned(revision(pod("a")), database=database), "DatabaseReachable").status == "True"


@pytest.mark.parametrize("reason", [Reason.BAD_SECRET, Reason.DATABASE_REFUSED])
def test_a_definite_error_is_reported_at_once(reason: Reason) -> None:
    fault = Fault(reason=reason, message="no key uri in secret postgres-app")
    plan = planned(revision(pod("a")), database=DatabaseState(demand=Demand(), age=1, fault=fault))
    assert condition(plan, "Ready").reason == reason
    assert condition(plan, "Ready").message == fault.message


def test_outage_and_return_are_two_events() -> None:
    quiet = held(snapshot(revision(pod("a")), demand=Demand(in_flight=1)), 1)
    quiet = later(quiet, make_plan(quiet))
    down = replace(quiet, database=DatabaseState(demand=Demand(in_flight=1), age=60, fault=UNREACHABLE))
    plan = make_plan(down)
    warnings = [event.reason for event in plan.events if event.type == "Warning"]
    assert "DatabaseUnreachable" in warnings
    still_down = later(down, plan)
    assert make_plan(still_down).events == ()
    up = replace(still_down, database=quiet.database)
    assert "Reachable" in event_reasons(make_plan(up))


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
def test_paused_and_dry_run_change_nothing_but_the_status(mode: str) -> None:
    spec = make_spec(scaling={"mode": mode})
    plan = planned(revision(pod("a")), spec=spec, demand=Demand(startable=100), target="bbbb", budget=BudgetState())
    assert plan == replace(plan, drain=(), mark=(), create=(), scale=(), delete=(), prove=(), budget=None)
    assert condition(plan, "ScalingActive").status == "False"


def test_a_resource_that_starts_paused_is_neither_ready_nor_broken() -> None:
    plan = planned(spec=make_spec(scaling={"mode": "Paused"}))
    assert (condition(plan, "Ready").status, condition(plan, "Ready").reason) == ("Unknown", "Suspended")
    assert plan.create == ()


def test_a_restart_in_the_middle_of_a_rollout_does_not_take_the_surge_for_demand() -> None:
    old = revision(*[pod(f"o{index}", report=report(in_flight=5)) for index in range(4)])
    new = revision(pod("n"), name="report-bbbb", revision="bbbb", created_at=NOW)
    plan = planned(old, new, target="bbbb", demand=Demand(in_flight=20))
    assert plan.status is not None
    assert plan.status.scaling is not None
    assert plan.status.scaling.desired == 4


def test_a_dry_run_shows_what_it_would_do() -> None:
    plan = planned(revision(pod("a")), spec=make_spec(scaling={"mode": "DryRun"}), demand=Demand(startable=100))
    assert plan.status is not None
    assert plan.status.scaling is not None
    assert (plan.status.scaling.desired, plan.status.scaling.reason) == (5, "Backlog")


def test_leaving_a_dry_run_starts_from_what_runs() -> None:
    dry = held(snapshot(revision(pod("a"), pod("b")), spec=make_spec(scaling={"mode": "DryRun"})), 9)
    plan = make_plan(replace(dry, spec=make_spec()))
    assert plan.scale == ()


def test_external_is_seeded_with_what_runs_and_left_with_the_default() -> None:
    external = make_spec(scaling={"mode": "External"})
    plan = make_plan(replace(held(snapshot(revision(pod("a"), pod("b"), pod("c"))), 3), spec=external))
    assert plan.set_replicas is not None
    assert plan.set_replicas.replicas == 3
    seeded = external.model_copy(update={"replicas": 3})
    back = make_spec().model_copy(update={"replicas": 3})
    left = make_plan(replace(held(snapshot(revision(pod("a")), spec=seeded), 3), spec=back))
    assert left.set_replicas is not None
    assert left.set_replicas.replicas == 1


def test_external_is_not_seeded_when_the_number_is_set() -> None:
    spec = make_spec(scaling={"mode": "External"}, replicas=1)
    before = replace(held(snapshot(revision(pod("a"), pod("b"))), 2), spec=spec, replicas_set=True)
    assert make_plan(before).set_replicas is None


def test_a_seed_that_was_not_seen_yet_is_written_again_and_nothing_shrinks_meanwhile() -> None:
    spec = make_spec(scaling={"mode": "External"})
    first = replace(held(snapshot(revision(pod("a"), pod("b"), pod("c"))), 3), spec=spec)
    second = make_plan(later(first, make_plan(first)))
    assert second.set_replicas is not None
    assert (second.set_replicas.replicas, second.drain) == (3, ())


def test_the_default_is_written_until_the_status_says_that_external_was_left() -> None:
    """Also when the number was written by another client (`kubectl scale`), and across a restart."""
    scaled = make_spec(scaling={"mode": "External"}, replicas=2)
    first = replace(held(snapshot(revision(pod("a"), pod("b"))), 2), spec=scaled, replicas_set=True)
    shown = stored(make_plan(first).status)
    left = replace(first, spec=make_spec(replicas=2), status=shown, memory=None)
    plan = make_plan(left)
    assert plan.set_replicas is not None
    assert plan.set_replicas.replicas == 1
    assert make_plan(replace(left, status=stored(plan.status))).set_replicas is None


def test_a_one_that_was_asked_for_in_external_is_not_asked_for_in_the_next() -> None:
    """It looks like the default, and stays theirs until its value changes: so it is changed, and comes back as ours."""
    scaled = make_spec(scaling={"mode": "External"}, replicas=1)
    first = replace(held(snapshot(revision(pod("a"))), 1), spec=scaled, replicas_set=True)
    left = replace(first, spec=make_spec(replicas=1), status=stored(make_plan(first).status), memory=None)
    plan = make_plan(left)
    assert plan.set_replicas is not None
    assert plan.set_replicas.replicas == 2
    ours = replace(left, spec=make_spec(replicas=2), status=stored(plan.status), replicas_set=False)
    plan = make_plan(ours)
    assert plan.set_replicas is not None
    assert plan.set_replicas.replicas == 1
    assert not [event for event in plan.events if event.reason == "NotExternal"]
    done = replace(ours, spec=make_spec(replicas=1), status=stored(plan.status) if plan.status else ours.status)
    assert make_plan(done).set_replicas is None


def test_a_number_outside_external_is_reported_as_ignored() -> None:
    ignored = condition(planned(revision(pod("a")), spec=make_spec(replicas=4), replicas_set=True), "ScaleIgnored")
    assert (ignored.status, ignored.reason) == ("True", "NotExternal")


def test_the_younger_of_two_resources_for_one_flow_runs_nothing_and_names_the_older() -> None:
    older = replace(ME, name="first", uid="0", created_at=NOW - timedelta(days=9))
    plan = planned(revision(pod("a")), rivals=(older,), demand=Demand(startable=50))
    assert [drain.pod for drain in plan.drain] == ["a"]
    assert planned(rivals=(older,)).create == ()
    ready = condition(plan, "Ready")
    assert ready.reason == "OwnedElsewhere"
    assert "shop/first" in ready.message
    assert condition(plan, "Stalled").status == "True"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(("flow", "report"), ("queue", "report")), (("queue", "report"), ("flow", "report")),
     (("queue", "report"), ("queue", "Report"))],
)  # fmt: skip
def test_the_younger_of_two_resources_that_would_share_a_queue_runs_nothing_and_says_why(
    mine: tuple[str, str], theirs: tuple[str, str]
) -> None:
    kind, slug = theirs
    older = replace(ME, name="first", uid="0", created_at=NOW - timedelta(days=9), kind=kind, slug=slug)
    claim = replace(ME, kind=mine[0], slug=mine[1])
    plan = planned(claim=claim, rivals=(older,), demand=Demand(startable=50))
    assert plan.create == ()
    found = condition(plan, "Ready")
    assert (found.status, found.reason) == ("False", "OwnedElsewhere")
    assert found.message == (
        f"{mine[0]} 'report' has the queue of {kind} '{slug}', which is run in this database by the older FlowWorker "
        "shop/first; each would take the other's messages: give one of them another name"
    )


def test_the_older_of_two_resources_is_not_disturbed() -> None:
    younger = replace(ME, name="second", uid="9", created_at=NOW)
    plan = planned(revision(pod("a")), rivals=(younger,), demand=Demand(in_flight=1))
    assert condition(plan, "Ready").status == "True"


def test_workers_of_a_flow_worker_that_is_held_while_it_is_deleted_drain_and_go() -> None:
    plan = planned(
        revision(pod("a"), drained("b"), drifted=True),
        demand=Demand(startable=50),
        deleting=True,
        finalizers=("example.org/audit",),
        budget=BudgetState(),
    )
    assert {one.pod for one in plan.drain} == {"a", "b"}
    assert [one.pod for one in plan.mark] == ["b"]
    assert (plan.create, plan.repair, plan.budget, plan.delete) == ((), (), None, ())
    assert plan.status is not None
    (ready,) = [one for one in plan.status.conditions if one.type == "Ready"]
    assert (ready.status, ready.reason) == ("False", "Terminating")
    assert "example.org/audit" in ready.message


def test_nothing_is_made_for_a_flow_worker_that_is_being_deleted() -> None:
    plan = planned(deleting=True)
    assert (plan.create, plan.compile, plan.budget, plan.set_replicas) == ((), (), None, None)


def test_workers_that_are_to_be_left_behind_are_left_alone() -> None:
    plan = planned(revision(pod("a"), drained("b")), deleting=True, finalizers=("orphan",))
    assert (plan.drain, plan.mark, plan.scale) == ((), (), ())


def test_what_was_left_behind_is_adopted_and_not_made_again() -> None:
    plan = planned(orphans=(Orphan(name="report-aaaa", resource_version="7", owner="0"),))
    assert [(one.name, one.owner) for one in plan.adopt] == [("report-aaaa", "0")]
    assert plan.create == ()


def test_drift_is_repaired_with_the_grace_period_the_revision_has() -> None:
    (repair,) = planned(revision(pod("a"), drifted=True, grace=33)).repair
    assert (repair.name, repair.grace) == (NAME, 33)


def test_a_budget_comes_back_and_goes_with_the_second_worker() -> None:
    assert planned(revision(pod("a")), budget=BudgetState(exists=True, drifted=True)).budget is not None
    alone = planned(revision(pod("a")), spec=make_spec(scaling={"maxReplicas": 1}))
    assert alone.budget is not None
    assert alone.budget.action == "delete"


def test_an_unproven_revision_that_is_superseded_goes_at_once_and_is_deleted_when_empty() -> None:
    failing = revision(pod("x", ready=False, report=None), name="report-bbbb", revision="bbbb", proven=False)
    plan = planned(revision(pod("a")), failing, demand=Demand(in_flight=1))
    assert [(scale.name, scale.replicas) for scale in plan.scale] == [("report-bbbb", 0)]
    empty = replace(failing, replicas=0, pods=())
    assert [one.name for one in planned(revision(pod("a")), empty).delete] == ["report-bbbb"]


def test_an_old_revision_serves_alone_while_the_new_one_proves_itself() -> None:
    new = revision(pod("n", ready=False, report=None), name="report-bbbb", revision="bbbb", proven=False)
    plan = planned(revision(pod("a")), new, target="bbbb", demand=Demand(startable=80))
    assert [(scale.name, scale.replicas) for scale in plan.scale] == [(NAME, 4)]


def test_a_proven_revision_takes_over_pod_by_pod() -> None:
    old = revision(*[pod(f"o{index}", report=report(in_flight=5)) for index in range(4)])
    new = revision(pod("n"), name="report-bbbb", revision="bbbb", created_at=NOW)
    plan = planned(old, new, target="bbbb", demand=Demand(in_flight=40, startable=40))
    assert len(plan.drain) == 1
    assert plan.scale == ()
    assert condition(plan, "Ready").reason == "RollingOut"


def test_a_revision_that_misses_its_deadline_says_why_and_stays_for_inspection() -> None:
    late = pod("n", ready=False, report=None, created_at=NOW - timedelta(seconds=601))
    new = revision(late, name="report-bbbb", revision="bbbb", proven=False)
    plan = planned(revision(pod("a")), new, target="bbbb", demand=Demand(in_flight=1))
    assert condition(plan, "Progressing").reason == condition(plan, "Ready").reason == "DeadlineExceeded"
    assert condition(plan, "Stalled").status == "True"
    assert (plan.scale, plan.delete) == ((), ())


def test_what_the_api_server_refuses_reaches_the_conditions() -> None:
    fault = Fault(reason=Reason.TEMPLATE_REFUSED, message="spec.template.spec.containers[0].ports: invalid")
    plan = planned(refusal=fault)
    assert {condition(plan, kind).message for kind in ("Ready", "Progressing", "Stalled")} == {fault.message}


def test_numbers_are_written_at_most_every_ten_seconds() -> None:
    first = held(snapshot(revision(pod("a")), demand=Demand(in_flight=1)), 1)
    second = later(first, make_plan(first))
    busier = replace(second, database=replace(second.database, demand=Demand(in_flight=2)))
    assert make_plan(busier).status is None
    much_later = replace(busier, at=Moment(wall=NOW, tick=TICK + 10))
    assert make_plan(much_later).status is not None


def test_that_workers_are_ready_is_written_at_once() -> None:
    starting = [pod(name, ready=False) for name in "abc"]
    demand = Demand(in_flight=30)
    before = replace(held(snapshot(revision(*starting), demand=demand), 3), status_written_at=TICK)
    before = replace(before, status=stored(make_plan(before).status))
    ready = [pod(name) for name in "abc"]

    def written(*pods: PodState, seen: Snapshot = before) -> Snapshot | None:
        now = replace(seen, revisions=(revision(*pods),))
        status = make_plan(now).status
        return None if status is None else replace(now, status=stored(status))

    first = written(ready[0], *starting[1:])
    assert first is not None
    assert written(*ready[:2], starting[2], seen=first) is None, "the second of three can wait"
    assert written(*ready, seen=first) is not None


def test_conditions_are_written_at_once() -> None:
    first = held(snapshot(revision(pod("a")), demand=Demand(in_flight=1)), 1)
    second = later(first, make_plan(first), seconds=1)
    fault = Fault(reason=Reason.BAD_SECRET, message="secret postgres-app is gone")
    assert make_plan(replace(second, database=replace(second.database, fault=fault))).status is not None


def test_a_condition_that_changes_all_the_time_is_written_and_announced_only_so_often() -> None:
    now = held(snapshot(revision(pod("a")), demand=Demand(in_flight=1)), 1)
    good, bad = now.database, replace(now.database, fault=Fault(reason=Reason.BAD_SECRET, message="it is gone"))
    writes = events = held_back = 0
    for second in range(1800):
        plan = make_plan(replace(now, database=bad if second % 2 else good))
        events += sum(event.reason in ("BadSecret", "Running", "Reachable") for event in plan.events)
        held_back += "status" in plan.held_back
        if plan.status is not None:
            writes += 1
            left = take_token(now.status_writes, WRITES, now.at.tick)
            now = replace(now, status_writes=left or now.status_writes)
        now = later(now, plan, seconds=1)
    assert WRITES.burst <= writes <= WRITES.burst + 1800 * WRITES.per_second + 1
    assert events <= 4 * writes
    assert held_back > 200
    assert make_plan(replace(now, generation=2)).status is not None, "a change of the spec is answered at once"


def test_a_change_of_size_is_reported_once() -> None:
    first = held(snapshot(revision(pod("a")), demand=Demand(startable=100)), 1)
    plan = make_plan(first)
    assert event_reasons(plan) == ["ScaledUp"]
    assert "from 1 to 5 workers (Backlog)" in plan.events[0].message
    assert event_reasons(make_plan(later(first, plan))) == []


def test_a_dry_run_says_what_it_would_do_and_not_that_it_was_done() -> None:
    spec = make_spec(scaling={"mode": "DryRun"})
    first = held(snapshot(revision(pod("a")), spec=spec, demand=Demand(startable=100)), 1)
    plan = make_plan(first)
    assert event_reasons(plan) == ["WouldScale"]
    assert "nothing is changed; without the dry run from 1 to 5 workers (Backlog)" in plan.events[0].message
    assert event_reasons(make_plan(later(first, plan))) == []


def test_a_drain_is_an_event() -> None:
    asked = planned(
        revision(pod("a"), pod("b")), spec=make_spec(scaling={"maxReplicas": 1}), demand=Demand(in_flight=1)
    )
    (event,) = draining(asked.drain)
    assert (event.reason, event.message.split(":")[0]) == ("Draining", asked.drain[0].pod)
    assert not list(draining(()))


def test_a_transition_keeps_its_time_until_the_next_one() -> None:
    first = held(snapshot(revision(pod("a")), demand=Demand(in_flight=1)), 1)
    plan = make_plan(first)
    since = condition(plan, "Ready").last_transition_time
    moved = replace(later(first, plan, seconds=30), generation=2)
    assert condition(make_plan(moved), "Ready").last_transition_time == since


def test_a_grace_period_below_the_timeout_is_reported() -> None:
    plan = planned(revision(pod("a"), grace=20))
    assert condition(plan, "DrainsInTime").reason == "GraceTooShort"
    assert ME.name in str(plan.status)


def test_workers_that_have_been_ready_for_long_are_no_mystery() -> None:
    old = pod("a", created_at=NOW - timedelta(hours=1))
    ready = condition(planned(revision(old, proven=True)), "Ready")
    assert (ready.status, ready.message) == ("True", "1 of 1 workers are ready")
