"""Whatever happens on the way, plans alone bring the cluster where it should be, and then there is nothing to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.operator.small_cluster import SmallCluster

from flowworker_operator.api.spec import Database, FlowWorkerSpec, Scaling, ScalingMode, SecretRef, WorkerOptions
from flowworker_operator.domain.rollout import most_together

TICK = 2.0
MOST = 12


def make_spec(image: str = "app:1", *, mode: ScalingMode = ScalingMode.AUTO, most: int = MOST) -> FlowWorkerSpec:
    return FlowWorkerSpec(
        flow="report",
        handler="app:report",
        image=image,
        database=Database(secret_ref=SecretRef(name="db")),
        worker=WorkerOptions(max_concurrency=4),
        scaling=Scaling(mode=mode, max_replicas=most, idle_seconds_before_zero=6, scale_down_window_seconds=4),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Literal[
        "load", "image", "broken image", "database down", "database up", "operator restarts", "operator dies midway",
        "pod dies", "max", "mode", "quota", "no quota", "lag", "time", "timeout",
    ]  # fmt: skip
    number: int


KINDS: Sequence[str] = Fault.__annotations__["kind"].__args__
faults = st.lists(st.builds(Fault, st.sampled_from(KINDS), st.integers(0, 14)), max_size=14)


def strike(cluster: SmallCluster, fault: Fault) -> None:
    match fault.kind:
        case "load" | "image" | "broken image" | "max" | "mode" | "timeout":
            strike_user(cluster, fault)
        case "database down" | "database up":
            cluster.database_up = fault.kind == "database up"
        case "operator restarts":
            cluster.restart_operator()
        case "operator dies midway":
            cluster.reconcile(applied=fault.number)
        case "pod dies":
            cluster.kill(fault.number)
        case "quota" | "no quota":
            cluster.quota = fault.number % 4 if fault.kind == "quota" else None
        case "lag":
            cluster.lag = 2 * fault.number
        case "time":
            for _ in range(fault.number):
                turn(cluster)


def strike_user(cluster: SmallCluster, fault: Fault) -> None:
    match fault.kind:
        case "load":
            cluster.backlog += [float(4 + index * 7 % 37) for index in range(fault.number * 6)]
        case "image":
            cluster.change(cluster.spec.model_copy(update={"image": f"app:{fault.number % 3}"}))
        case "broken image":
            cluster.broken_images.add("app:broken")
            cluster.change(cluster.spec.model_copy(update={"image": "app:broken"}))
        case "timeout":
            # Longer than any task of `load`: no task outlives its timeout.
            cluster.longest_timeout = (None, 45, 600, 7200)[fault.number % 4]
        case "max":
            rescale(cluster, max_replicas=1 + fault.number)
        case _:
            rescale(cluster, mode=list(ScalingMode)[fault.number % len(ScalingMode)])


def rescale(cluster: SmallCluster, **update: object) -> None:
    scaling = cluster.spec.scaling.model_copy(update=update)
    cluster.change(cluster.spec.model_copy(update={"scaling": scaling}))


def turn(cluster: SmallCluster) -> bool:
    """One tick; whether the plan was empty."""
    plan = cluster.reconcile()
    cluster.pass_time(TICK)
    return plan.empty


def settle(cluster: SmallCluster, turns: int = 250) -> int:
    """Turn until nothing has been planned for a while; how many turns it took."""
    quiet = 0
    for count in range(turns):
        quiet = quiet + 1 if turn(cluster) else 0
        if quiet == 12:
            return count
    raise AssertionError(f"still planning after {turns} turns: {cluster.reconcile()}")


@settings(max_examples=120)
@given(faults)
def test_every_sequence_of_faults_ends_in_the_same_state(sequence: Sequence[Fault]) -> None:
    cluster = SmallCluster(make_spec())
    for fault in sequence:
        strike(cluster, fault)
        turn(cluster)
    cluster.database_up, cluster.quota, cluster.lag = True, None, 0
    cluster.change(make_spec("app:last"))
    settle(cluster)
    (only,) = cluster.deployments.values()
    assert (only.revision, only.proven, only.replicas, only.pods) == (cluster.target, True, 0, [])
    assert cluster.backlog == []
    assert only.grace >= (cluster.longest_timeout or 0)
    assert {one.type: one.reason for one in cluster.status.conditions}["Ready"] == "Idle"


@settings(max_examples=100)
@given(st.integers(0, 14), faults)
def test_no_task_of_a_proven_worker_is_ever_interrupted(load: int, sequence: Sequence[Fault]) -> None:
    cluster = SmallCluster(make_spec())
    strike(cluster, Fault("load", load))
    for fault in (Fault("time", 10), *sequence, Fault("time", 30)):
        strike(cluster, fault)
        turn(cluster)
    assert cluster.interrupted == 0


@settings(max_examples=120)
@given(faults)
def test_growth_during_a_rollout_stays_within_the_surge(sequence: Sequence[Fault]) -> None:
    cluster = SmallCluster(make_spec())
    for fault in sequence:
        strike(cluster, fault)
        before = sum(item.replicas for item in cluster.deployments.values())
        plan = cluster.reconcile()
        after = sum(item.replicas for item in cluster.deployments.values())
        if plan.status is not None and after > before and plan.status.scaling is not None:
            assert after <= most_together(plan.status.scaling.desired) + 1
        cluster.pass_time(TICK)


@settings(max_examples=60)
@given(faults)
def test_a_revision_that_cannot_start_leaves_the_one_before_at_work(sequence: Sequence[Fault]) -> None:
    cluster = SmallCluster(make_spec())
    settle(cluster)
    cluster.broken_images.add("app:broken")
    cluster.change(make_spec("app:broken"))
    for fault in sequence:
        if fault.kind in ("load", "operator restarts", "operator dies midway", "pod dies", "lag", "time"):
            strike(cluster, fault)
            turn(cluster)
    cluster.lag = 0
    settle(cluster)
    assert cluster.backlog == []
    replicas = {item.proven: item.replicas for item in cluster.deployments.values()}
    assert replicas == {True: 0, False: 1}


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(0, 3))
def test_load_is_met_and_left_again(tasks: int, restarts: int) -> None:
    cluster = SmallCluster(make_spec())
    settle(cluster)
    cluster.backlog += [8.0] * tasks
    turn(cluster)
    (only,) = cluster.deployments.values()
    assert only.replicas == min(MOST, -(-tasks // 8))
    for _ in range(restarts):
        turn(cluster)
        cluster.restart_operator()
    settle(cluster)
    assert (cluster.completed, only.replicas, cluster.interrupted) == (tasks, 0, 0)
