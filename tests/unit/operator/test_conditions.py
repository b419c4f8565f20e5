"""What the conditions say of a rollout that does not go on, and of one that is not judged."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.operator.samples import (
    NOW,
    condition,
    event_reasons,
    held,
    later,
    make_spec,
    planned,
    pod,
    report,
    revision,
    snapshot,
)

from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.snapshot import (
    ContainerState,
    DatabaseState,
    Demand,
    Fault,
    PodState,
    RevisionState,
    Snapshot,
    WorkerState,
)

DEADLINE = 600
FULL = "0/3 nodes are available: insufficient cpu"


def waiting(age: float, **changes: object) -> PodState:
    """A pod of the new revision that is not ready."""
    made = pod("new-2", ready=False, report=None, created_at=NOW - timedelta(seconds=age))
    return replace(made, **changes)  # type: ignore[arg-type]


def rolling(waits: PodState, **changes: object) -> Snapshot:
    """A proven revision with a worker and a pod that waits, in the middle of replacing an older one."""
    new = revision(pod("new-1"), waits, created_at=NOW - timedelta(hours=2))
    old = revision(pod("o1"), pod("o2"), name="report-bbbb", revision="bbbb", created_at=NOW - timedelta(days=1))
    return replace(held(snapshot(new, old, demand=Demand(startable=60)), 3), **changes)  # type: ignore[arg-type]


def test_workers_whose_results_wait_are_named_and_remain_ready() -> None:
    waits = [pod(name, report=report(results_wait=True)) for name in "abcd"]
    found = condition(planned(revision(*waits, pod("e")), demand=Demand(in_flight=50)), "Ready")
    assert (found.status, found.reason) == ("True", "Running")
    assert found.message == (
        "5 of 5 workers are ready; results wait to be written by a, b, c and 1 more; see their last errors and logs"
    )


def test_workers_whose_claims_are_not_answered_or_in_doubt_are_named_and_remain_ready() -> None:
    waits = [pod("a", report=report(claims_wait=True)), pod("b", report=report(doubts=2))]
    shown = condition(planned(revision(*waits, pod("c")), demand=Demand(in_flight=50)), "Ready")
    assert (shown.status, shown.reason) == ("True", "Running")
    assert shown.message == (
        "3 of 3 workers are ready; the database answers no claim of a; see their last errors and logs; "
        "the outcome of claims of b is not known yet"
    )


def test_workers_whose_node_says_nothing_are_named_at_once() -> None:
    silent = pod("b", ready=False, cut_off=True, created_at=NOW)
    shown = condition(planned(revision(pod("a"), silent), demand=Demand(in_flight=50)), "Ready")
    assert (shown.status, shown.reason) == ("True", "Running")
    assert shown.message == "1 of 2 workers are ready; Kubernetes does not hear from the node of b"


def stalled(plan: Plan) -> bool:
    assert plan.status is not None
    return any(one.type == "Stalled" for one in plan.status.conditions)


@pytest.mark.parametrize("kind", ["Ready", "Progressing"])
def test_a_rollout_says_what_its_new_pods_wait_for(kind: str) -> None:
    found = condition(make_plan(rolling(waiting(DEADLINE / 2, unschedulable=FULL))), kind)
    assert found.reason == "RollingOut"
    assert found.message.startswith("2 workers of older revisions are still to be replaced by revision aaaa; ")
    assert FULL in found.message


def test_what_moves_a_terminal_or_hides_a_part_is_left_out_of_a_condition() -> None:
    found = condition(make_plan(rolling(waiting(DEADLINE / 2, unschedulable="\x1b[2Jno \u202enode\x07"))), "Ready")
    assert "[2Jno node" in found.message
    assert found.message.isprintable()


def test_a_rollout_says_which_pods_are_not_ready_for_no_known_reason() -> None:
    found = condition(make_plan(rolling(waiting(90))), "Progressing")
    assert (found.status, found.reason) == ("True", "RollingOut")
    assert "not ready for no known reason: new-2" in found.message


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ((pod("o1"), pod("o2", ending=True)), "1 worker of an older revision is still to be replaced"),
        ((pod("o1", ending=True),), "the last worker of an older revision is stopping"),
        ((pod("o1", ending=True), pod("o2", ending=True)), "the last 2 workers of older revisions are stopping"),
        ((), "older revisions are being scaled to zero"),
    ],
)
def test_a_rollout_counts_no_worker_that_is_not_there(pods: tuple[PodState, ...], words: str) -> None:
    old = revision(*pods, replicas=1, name="report-bbbb", revision="bbbb", created_at=NOW - timedelta(days=1))
    plan = planned(revision(pod("new")), old, demand=Demand(startable=1))
    for kind in ("Ready", "Progressing"):
        assert condition(plan, kind).message.startswith(words)


@pytest.mark.parametrize(
    ("waits", "reason"),
    [
        (waiting(DEADLINE + 1, unschedulable=FULL), "Unschedulable"),
        (waiting(DEADLINE + 1, containers=(ContainerState(name="worker", exit_code=70),)), "CrashLoop"),
        (waiting(DEADLINE + 1), "NotReady"),
        (waiting(DEADLINE + 1, report=report(WorkerState.LOST)), "NotReady"),
    ],
)
def test_a_rollout_whose_new_pods_do_not_start_in_time_has_failed_for_their_reason(
    waits: PodState, reason: str
) -> None:
    first = rolling(waits)
    first = later(first, make_plan(rolling(waiting(DEADLINE - 5))))
    plan = make_plan(first)
    progressing = condition(plan, "Progressing")
    assert (progressing.status, progressing.reason) == ("False", reason)
    assert progressing.message.startswith("workers of revision aaaa did not start within 600 s: ")
    assert (condition(plan, "Stalled").reason, condition(plan, "Ready").reason) == (reason, "RollingOut")
    assert reason in event_reasons(plan)
    assert reason not in event_reasons(make_plan(later(first, plan)))


@pytest.mark.parametrize("waits", [waiting(DEADLINE - 1, unschedulable=FULL), waiting(DEADLINE + 1, report=report())])
def test_a_pod_that_is_young_or_whose_worker_is_at_work_fails_no_rollout(waits: PodState) -> None:
    plan = make_plan(rolling(waits))
    assert (condition(plan, "Progressing").status, stalled(plan)) == ("True", False)


def test_an_outage_of_the_database_fails_no_rollout() -> None:
    fault = Fault(reason=Reason.DATABASE_UNREACHABLE, message="no answer")
    plan = make_plan(rolling(waiting(DEADLINE + 1), database=DatabaseState(fault=fault)))
    assert (condition(plan, "Progressing").status, stalled(plan)) == ("True", False)


@pytest.mark.parametrize("mode", ["Paused", "DryRun"])
@pytest.mark.parametrize("candidate", [pod("a"), pod("a", ready=False, report=None)], ids=["ready", "not ready"])
def test_a_proof_that_no_pod_begins_misses_no_deadline(mode: str, candidate: PodState) -> None:
    long_ago = replace(candidate, created_at=NOW - timedelta(seconds=2 * DEADLINE))
    unproven = revision(long_ago, proven=False)
    plan = planned(unproven, spec=make_spec(scaling={"mode": mode}))
    for kind in ("Ready", "Progressing"):
        assert (condition(plan, kind).status, condition(plan, kind).reason) == ("Unknown", "Suspended")
    assert not stalled(plan)
    assert "DeadlineExceeded" not in event_reasons(plan)


def test_a_rollout_that_is_paused_has_not_failed() -> None:
    plan = make_plan(rolling(waiting(DEADLINE + 1), spec=make_spec(scaling={"mode": "Paused"})))
    assert (condition(plan, "Progressing").status, stalled(plan)) == ("True", False)


def test_a_proof_is_judged_again_when_the_mode_allows_it() -> None:
    late: RevisionState = revision(waiting(DEADLINE + 1), proven=False)
    assert condition(planned(late), "Progressing").reason == "DeadlineExceeded"
