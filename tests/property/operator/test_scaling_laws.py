"""Laws of scaling that hold for every load, every limit and every history."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import Database, FlowWorkerSpec, Scaling, ScalingMode, SecretRef, WorkerOptions
from flowworker_operator.domain.memory import Memory
from flowworker_operator.domain.scaling import TURNS, Decision, ScalingResult, Situation, clamp, decide, needed
from flowworker_operator.domain.snapshot import DatabaseState, Demand

TICK = 5.0

demands = st.builds(
    Demand,
    startable=st.integers(0, 500),
    in_flight=st.integers(0, 500),
    due_in=st.none() | st.floats(0, 300),
)


@st.composite
def specs(draw: st.DrawFn, *, mode: ScalingMode = ScalingMode.AUTO) -> FlowWorkerSpec:
    least = draw(st.integers(0, 5))
    scaling = Scaling(
        mode=mode,
        min_replicas=least,
        max_replicas=draw(st.integers(max(1, least), 60)),
        tasks_per_replica=draw(st.none() | st.integers(1, 50)),
        idle_seconds_before_zero=draw(st.integers(0, 120)),
        scale_down_window_seconds=draw(st.integers(0, 240)),
    )
    return FlowWorkerSpec(
        flow="report",
        handler="app:report",
        image="app:1",
        database=Database(secret_ref=SecretRef(name="db")),
        worker=WorkerOptions(max_concurrency=draw(st.integers(1, 30))),
        scaling=scaling,
    )


readings = st.none() | demands
histories = st.lists(readings, max_size=30)


def decide_at(
    spec: FlowWorkerSpec,
    reading: Demand | None,
    memory: Memory | None,
    tick: float,
    held: int,
    *,
    replicas_set: bool = False,
) -> ScalingResult:
    """A reading of None is one that is too old."""
    database = DatabaseState(demand=reading or Demand(), age=0 if reading is not None else 1000)
    situation = Situation(running=held, shown=held, shown_mode=spec.scaling.mode)
    return decide(spec, database, situation, memory, replicas_set=replicas_set, tick=tick)


def decisions(
    spec: FlowWorkerSpec, history: Sequence[Demand | None], *, restart_before: int | None = None
) -> list[Decision]:
    """One tick after another; the operator may have been restarted in between."""
    memory, held, made = None, 0, list[Decision]()
    for index, reading in enumerate(history):
        memory = None if index == restart_before else memory
        outcome = decide_at(spec, reading, memory, index * TICK, held)
        memory, held = outcome.memory, outcome.decision.desired
        made.append(outcome.decision)
    return made


def play(spec: FlowWorkerSpec, history: Sequence[Demand | None]) -> list[int]:
    """The numbers wanted, one tick after another."""
    return [decision.desired for decision in decisions(spec, history)]


@given(specs(), histories)
def test_the_limits_always_hold(spec: FlowWorkerSpec, history: Sequence[Demand | None]) -> None:
    limits = range(spec.scaling.min_replicas, spec.scaling.max_replicas + 1)
    assert all(answer in limits for answer in play(spec, history))


@given(specs(), histories)
def test_what_is_unknown_never_shrinks(spec: FlowWorkerSpec, history: Sequence[Demand | None]) -> None:
    answers = [clamp(spec, 0), *play(spec, history)]
    for before, now, reading in zip(answers, answers[1:], history, strict=False):
        assert reading is not None or now == before


@given(specs(), histories)
def test_what_runs_always_has_slots_within_the_limit(spec: FlowWorkerSpec, history: Sequence[Demand | None]) -> None:
    for answer, reading in zip(play(spec, history), history, strict=True):
        if reading is not None:
            slots = -(-reading.in_flight // spec.worker.max_concurrency)
            assert answer >= min(slots, spec.scaling.max_replicas)


@given(specs(), histories, demands, st.integers(0, 200), st.integers(0, 200))
def test_more_backlog_never_means_fewer_workers(
    spec: FlowWorkerSpec, history: Sequence[Demand | None], demand: Demand, waiting: int, running: int
) -> None:
    more = Demand(startable=demand.startable + waiting, in_flight=demand.in_flight + running, due_in=demand.due_in)
    assert play(spec, [*history, demand])[-1] <= play(spec, [*history, more])[-1]


@given(specs(), histories, demands)
def test_a_constant_load_gives_a_constant_answer(
    spec: FlowWorkerSpec, history: Sequence[Demand | None], demand: Demand
) -> None:
    """Once the windows have passed; on the way there it only falls."""
    longest = max(spec.scaling.scale_down_window_seconds, spec.scaling.idle_seconds_before_zero, 1 / TURNS.per_second)
    steady = int(longest / TICK) + 2
    answers = play(spec, [*history, *[demand] * (steady + 10)])[len(history) :]
    assert answers == sorted(answers, reverse=True)
    assert len(set(answers[steady:])) == 1


@given(specs(), histories, demands)
def test_growth_is_immediate_and_in_one_step(
    spec: FlowWorkerSpec, history: Sequence[Demand | None], demand: Demand
) -> None:
    answers = play(spec, [*history, demand])
    assert answers[-1] >= clamp(spec, needed(spec, demand))


@given(specs(), st.lists(demands, min_size=1, max_size=40), st.integers(0, 40))
def test_a_restart_never_shortens_a_window(spec: FlowWorkerSpec, history: Sequence[Demand], index: int) -> None:
    """What a demand that goes up and down too often was held back by is no window, and begins anew."""
    assume(index < len(history))
    undisturbed = decisions(spec, history)
    assume(not any(decision.unsteady for decision in undisturbed))
    restarted = decisions(spec, history, restart_before=index)
    assert all(after.desired >= before.desired for before, after in zip(undisturbed, restarted, strict=True))


@given(specs(), histories)
def test_shrinking_never_goes_below_what_the_window_needed(
    spec: FlowWorkerSpec, history: Sequence[Demand | None]
) -> None:
    answers = play(spec, history)
    ticks = int(spec.scaling.scale_down_window_seconds / TICK)
    for index, answer in enumerate(answers):
        recent = [reading for reading in history[max(0, index - ticks) : index + 1] if reading is not None]
        most = max((clamp(spec, needed(spec, reading)) for reading in recent), default=0)
        assert answer >= most or answer == 0


@given(specs(), histories)
def test_zero_is_only_reached_after_the_idle_time(spec: FlowWorkerSpec, history: Sequence[Demand | None]) -> None:
    answers = [0, *play(spec, history)]
    patience = spec.scaling.idle_seconds_before_zero
    for index, (before, now) in enumerate(pairwise(answers)):
        if before > 0 and now == 0:
            seen = history[max(0, index - int(patience / TICK)) : index + 1]
            assert all(one is not None and one.startable + one.in_flight == 0 for one in seen)
            last = history[index]
            assert last is not None
            assert last.due_in is None or last.due_in > patience


@given(specs(mode=ScalingMode.PAUSED), readings, st.integers(0, 60))
def test_paused_keeps_what_there_is(spec: FlowWorkerSpec, reading: Demand | None, running: int) -> None:
    outcome = decide_at(spec, reading, None, 0.0, running)
    assert (outcome.decision.desired, outcome.decision.reason) == (running, Reason.PAUSED)


@given(specs(mode=ScalingMode.EXTERNAL), readings, st.integers(0, 60))
def test_external_follows_the_field_within_the_limits(spec: FlowWorkerSpec, reading: Demand | None, asked: int) -> None:
    spec = spec.model_copy(update={"replicas": asked})
    outcome = decide_at(spec, reading, None, 0.0, 3, replicas_set=True)
    assert outcome.decision.desired == clamp(spec, asked)


@given(specs(), demands, st.integers(1, 30))
def test_entering_and_leaving_external_does_not_jump(spec: FlowWorkerSpec, demand: Demand, running: int) -> None:
    before = decide_at(spec, demand, None, 0.0, running)
    held = before.decision.desired
    external = spec.model_copy(update={"scaling": spec.scaling.model_copy(update={"mode": ScalingMode.EXTERNAL})})
    entered = decide_at(external, demand, before.memory, TICK, held)
    seeded = external.model_copy(update={"replicas": entered.seed or external.replicas})
    assert entered.decision.desired == clamp(spec, max(1, held))
    stayed = decide_at(seeded, demand, entered.memory, 2 * TICK, entered.decision.desired)
    assert (stayed.decision.desired, stayed.seed) == (entered.decision.desired, None)
    back = spec.model_copy(update={"replicas": seeded.replicas})
    left = decide_at(back, demand, stayed.memory, 3 * TICK, stayed.decision.desired)
    assert left.seed == (1 if seeded.replicas != 1 else None)
    work = needed(spec, demand)
    patient = work > 0 or spec.scaling.idle_seconds_before_zero > 0
    if patient and spec.scaling.scale_down_window_seconds >= TICK:
        assert left.decision.desired == max(stayed.decision.desired, clamp(spec, work))
