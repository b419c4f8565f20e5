"""Laws of choosing who goes, and of naming."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.domain.drain import Resize, resize, victims
from flowworker_operator.domain.naming import LONGEST_LABEL, base_name, deployment_name
from flowworker_operator.domain.rollout import allocate, most_together
from flowworker_operator.domain.snapshot import DrainRequest, PodState, Report, RevisionState, WorkerState

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

reports = st.builds(
    Report,
    state=st.sampled_from(WorkerState),
    kind=st.just("flow"),
    slug=st.just("report"),
    in_flight=st.integers(0, 9),
    on_last_attempt=st.booleans(),
)


@st.composite
def pods(draw: st.DrawFn, most: int = 8) -> tuple[PodState, ...]:
    count = draw(st.integers(0, most))
    return tuple(
        PodState(
            name=f"pod-{index}",
            uid=str(index),
            created_at=EPOCH + timedelta(seconds=draw(st.integers(0, 99))),
            ready=draw(st.booleans()),
            ending=draw(st.booleans()),
            marked=draw(st.booleans()),
            report=draw(st.none() | reports),
            drain=draw(st.none() | st.builds(DrainRequest, age=st.floats(0, 100))),
        )
        for index in range(count)
    )


def revision(
    members: Sequence[PodState], replicas: int, *, name: str = "a", proven: bool = True, born: int = 0
) -> RevisionState:
    return RevisionState(
        name=name,
        revision=name,
        resource_version="1",
        created_at=EPOCH + timedelta(seconds=born),
        replicas=replicas,
        proven=proven,
        pods=tuple(members),
    )


revisions = st.builds(revision, pods(), st.integers(0, 8))


def on_last_attempt(pod: PodState) -> bool:
    return pod.report is not None and pod.report.on_last_attempt


@given(pods(), st.integers(0, 8))
def test_a_task_on_its_last_attempt_is_only_chosen_when_there_is_no_other_choice(
    members: Sequence[PodState], count: int
) -> None:
    chosen = victims(members, count)
    spared = [pod for pod in members if pod not in chosen]
    assert not any(map(on_last_attempt, chosen)) or all(map(on_last_attempt, spared))


@given(revisions, st.integers(0, 8))
def test_without_fresh_reports_nothing_but_growth_happens(item: RevisionState, wanted: int) -> None:
    change = resize(item, wanted, drain_timeout=60, informed=False)
    assert change.replicas is None or change.replicas == wanted > item.replicas
    assert change == Resize(replicas=change.replicas)


@given(revisions, st.integers(0, 8))
def test_replicas_move_towards_what_is_wanted_and_never_past_it(item: RevisionState, wanted: int) -> None:
    change = resize(item, wanted, drain_timeout=60, informed=True)
    if change.replicas is not None:
        assert min(item.replicas, wanted) <= change.replicas <= max(item.replicas, wanted)


@given(revisions, st.integers(0, 8))
def test_only_pods_that_may_go_are_removed(item: RevisionState, wanted: int) -> None:
    """The ReplicaSet removes pods that are not ready first, then marked ones; all of those must have drained."""
    change = resize(item, wanted, drain_timeout=60, informed=True)
    if change.replicas is None or change.replicas > item.replicas:
        return
    order = sorted(item.live, key=lambda pod: (pod.ready, not pod.marked))
    if len(item.live) > item.replicas:
        return  # earlier removals are still on their way; who they take was settled then
    for pod in order[: max(0, len(item.live) - change.replicas)]:
        over = pod.report is not None and pod.report.state in ("drained", "stopped", "lost")
        late = pod.drain is not None and pod.drain.age >= 60
        assert late or (over and pod.drain is not None) or (pod.report is None and not pod.ready)


@given(pods(most=6), pods(most=6), st.integers(0, 8), st.integers(0, 8), st.integers(0, 20))
def test_a_replacement_stays_within_the_surge_and_keeps_the_capacity(
    new: Sequence[PodState], old: Sequence[PodState], replicas: int, older: int, desired: int
) -> None:
    target, before = revision(new, replicas, name="b", born=9), revision(old, older)
    wanted = allocate((before, target), "b", desired).replicas
    ready = sum(pod.ready and pod.drain is None for pod in target.live)
    assert wanted["b"] <= max(desired, 0)
    grown = wanted["b"] > replicas
    assert not grown or wanted["b"] + older <= most_together(desired) or older == 0
    assert wanted["a"] >= min(older, desired - ready)
    assert wanted["a"] <= older


@given(st.integers(0, 8), st.integers(0, 20))
def test_an_unproven_revision_gets_one_pod_and_the_old_one_all_demand(older: int, desired: int) -> None:
    before, target = revision((), older), revision((), 1, name="b", proven=False, born=9)
    assert allocate((before, target), "b", desired).replicas == {"a": desired, "b": 1}


names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True)


@given(names, names)
def test_names_fit_into_a_host_name_and_do_not_meet(one: str, other: str) -> None:
    name = deployment_name(one, "0123abcd")
    assert len(f"{name}-0123456789-01234") <= LONGEST_LABEL
    assert "." not in name
    assert one == other or base_name(one) != base_name(other)
