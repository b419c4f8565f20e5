"""Shrinking one Deployment, step by step."""

from dataclasses import replace
from datetime import timedelta

from tests.unit.operator.samples import NOW, drained, pod, report, revision

from flowworker_operator.domain.drain import Resize, resize, victims
from flowworker_operator.domain.snapshot import DrainRequest, PodState, RevisionState, WorkerState


def shrink(item: RevisionState, wanted: int) -> Resize:
    return resize(item, wanted, drain_timeout=60, informed=True)


def names(pods: tuple[PodState, ...]) -> list[str]:
    return [one.name for one in pods]


def busy(name: str, in_flight: int, *, last: bool = False) -> PodState:
    return pod(name, report=report(in_flight=in_flight, on_last_attempt=last))


def test_pods_that_are_not_ready_go_first_and_then_the_idlest() -> None:
    chosen = victims([busy("c", 3), busy("a", 1), pod("d", ready=False), busy("b", 2)], 3)
    assert names(chosen) == ["d", "a", "b"]


def test_a_pod_with_a_last_attempt_goes_last_even_when_it_is_the_idlest() -> None:
    assert names(victims([busy("a", 1, last=True), busy("b", 9)], 1)) == ["b"]


def test_a_pod_that_has_not_reported_counts_as_busy() -> None:
    assert names(victims([pod("a", report=None), busy("b", 9)], 1)) == ["b"]


def test_a_choice_once_made_is_kept() -> None:
    leased = pod("b", report=report(WorkerState.DRAINING, in_flight=5), drain=DrainRequest(age=1))
    assert names(victims([busy("a", 0), leased], 1)) == ["b"]


def test_among_equals_the_youngest_goes() -> None:
    young = pod("a", created_at=NOW - timedelta(seconds=9))
    assert names(victims([pod("b"), young], 1)) == ["a"]


def test_nothing_is_removed_while_it_drains() -> None:
    draining = pod("a", report=report(WorkerState.DRAINING, in_flight=1), drain=DrainRequest(age=59))
    change = shrink(revision(draining, busy("b", 3)), 1)
    assert (change.replicas, change.mark, names(change.drain)) == (None, (), ["a"])


def test_a_drain_that_takes_too_long_is_not_waited_for() -> None:
    late = pod("a", report=report(WorkerState.DRAINING, in_flight=1), drain=DrainRequest(age=60))
    assert names(shrink(revision(late, busy("b", 3)), 1).mark) == ["a"]


def test_a_drain_that_has_lapsed_proves_nothing() -> None:
    lapsed = pod("a", report=report(WorkerState.DRAINED))
    change = shrink(revision(lapsed, busy("b", 3)), 1)
    assert (change.mark, names(change.drain)) == ((), ["a"])


def test_the_dead_are_not_waited_for() -> None:
    dead = pod("a", ready=False, report=report(WorkerState.LOST, in_flight=4), drain=DrainRequest(age=1))
    assert names(shrink(revision(dead, busy("b", 3)), 1).mark) == ["a"]


def test_a_pod_that_never_registered_is_not_waited_for() -> None:
    assert names(shrink(revision(pod("a", ready=False, report=None), busy("b", 3)), 1).mark) == ["a"]


def test_replicas_are_lowered_only_once_the_marks_are_seen() -> None:
    assert shrink(revision(drained("a"), busy("b", 3)), 1).replicas is None
    assert shrink(revision(drained("a", marked=True), busy("b", 3)), 1).replicas == 1


def test_replicas_are_not_lowered_while_a_pod_that_stays_is_not_ready() -> None:
    """The ReplicaSet would remove that one instead."""
    stays = pod("b", ready=False, report=report(in_flight=2, on_last_attempt=True))
    assert shrink(revision(drained("a", marked=True), stays), 1).replicas is None


def test_replicas_are_not_lowered_while_a_pod_bears_a_mark_that_it_should_not_have() -> None:
    """The ReplicaSet might remove that one instead: it may not have seen that the mark is gone."""
    change = shrink(revision(drained("a", marked=True), replace(busy("b", 3), marked=True)), 1)
    assert ([pod.name for pod in change.unmark], change.replicas) == (["b"], None)


def test_replicas_are_not_lowered_while_a_victim_that_is_not_ready_still_works() -> None:
    works = pod("b", ready=False, report=report(WorkerState.DRAINING, in_flight=2), drain=DrainRequest(age=5))
    assert shrink(revision(drained("a", marked=True), works, pod("c")), 1).replicas is None


def test_pods_that_do_not_exist_need_no_drain() -> None:
    change = shrink(revision(busy("a", 2), replicas=5), 1)
    assert change == Resize(replicas=1)


def test_drains_are_renewed_until_the_pods_are_gone() -> None:
    leaving = drained("a", marked=True)
    change = shrink(revision(leaving, busy("b", 2), replicas=1), 1)
    assert (names(change.drain), change.unmark, change.resume) == (["a"], (), ())


def test_pods_that_are_leaving_do_not_count_as_capacity_to_choose_from() -> None:
    change = shrink(revision(drained("a", marked=True), busy("b", 2), busy("c", 1), replicas=2), 1)
    assert names(change.drain) == ["c", "a"]


def test_growth_while_pods_are_leaving_lets_them_stay() -> None:
    change = shrink(revision(drained("a", marked=True), busy("b", 2), replicas=1), 2)
    assert change.replicas == 2


def test_a_pod_that_is_being_deleted_is_kept_from_claiming_until_its_worker_has_ended() -> None:
    ending = drained("a", ending=True)
    stopped = pod("c", ending=True, report=report(WorkerState.STOPPED))
    change = shrink(revision(ending, stopped, busy("b", 1), replicas=1), 1)
    assert (change.replicas, names(change.drain)) == (None, ["a"])
