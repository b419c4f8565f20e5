"""How many workers: from one reading of the database and the memory of the windows to a number with its reason.

Growth is immediate and in one step. Shrinking waits for the window, going to zero for the idle time. What is not known
never shrinks anything. The limits of the spec hold whatever happens.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import FlowWorkerSpec, ScalingMode
from flowworker_operator.bounded import RateLimit, TokenBucket, take_token
from flowworker_operator.domain.memory import Memory, remember, seeded, trusted
from flowworker_operator.domain.snapshot import DatabaseState, Demand, PodState, WorkerState

STALE_AFTER = 15.0
"""Seconds after which a reading is too old to decide on."""

TURNS = RateLimit(burst=60, per_second=1 / 10)
"""How often the number of workers may fall after it has risen, whatever the windows: a demand that goes up and down all
the time would make workers come and go without end."""

_OVER = frozenset({WorkerState.DRAINED, WorkerState.STOPPED, WorkerState.LOST})

DEFAULT_REPLICAS = 1
"""`spec.replicas` where no client has written it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many workers, and why."""

    desired: int
    reason: Reason
    message: str
    limited: str | None = None
    """How the limits of the spec changed the answer; None when they did not."""
    unsteady: bool = False
    """Whether it keeps a number only because that has turned too often lately."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What there is before the decision."""

    running: int
    """Workers that are there, without what a rollout adds for a while."""
    shown: int | None
    """The last decision that reached the status."""
    shown_mode: ScalingMode | None
    """Its mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingResult:
    """A decision and what to remember of it."""

    decision: Decision
    memory: Memory
    before: int
    """Workers wanted until now."""
    seed: int | None = None
    """Value to write to `spec.replicas`, on entering or leaving External."""


def decide(
    spec: FlowWorkerSpec,
    database: DatabaseState,
    situation: Situation,
    memory: Memory | None,
    *,
    replicas_set: bool,
    tick: float,
) -> ScalingResult:
    """Decide how many workers should run.

    Args:
        spec: of the FlowWorker.
        database: the last reading and its age.
        situation: what runs, and what the status says.
        memory: of the last decision; None after a start of the operator.
        replicas_set: whether another client has written `spec.replicas`.
        tick: now, in seconds of a monotonic clock.
    """
    resumed = _resume(spec.scaling.mode, situation, memory, tick)
    seed = _reset(spec, situation, replicas_set=replicas_set)
    match spec.scaling.mode:
        case ScalingMode.AUTO | ScalingMode.DRY_RUN:
            decision, after = _automatic(spec, database, resumed, tick)
        case ScalingMode.EXTERNAL:
            # The default says nothing. As long as no client has written the number, what runs is what is asked for.
            untouched = spec.replicas == DEFAULT_REPLICAS and not replicas_set
            asked = clamp(spec, max(1, resumed.held)) if untouched else spec.replicas
            seed = asked if asked != spec.replicas else None
            decision = _external(spec, asked)
            after = _follow(resumed, decision.desired, tick, spec)
        case ScalingMode.PAUSED:
            decision = _paused(situation.running)
            after = seeded(spec.scaling.mode, situation.running, tick)
    return ScalingResult(decision=decision, memory=after, before=resumed.held, seed=seed)


def needed(spec: FlowWorkerSpec, demand: Demand) -> int:
    """Workers that the tasks need, without limits: room for all, and slots for what runs."""
    for_all = _divide_up(demand.startable + demand.in_flight, spec.tasks_per_replica)
    return max(for_all, _divide_up(demand.in_flight, spec.worker.max_concurrency))


def fresh(database: DatabaseState) -> Demand | None:
    """The last reading, unless it is too old to decide on."""
    return database.demand if database.age is not None and database.age <= STALE_AFTER else None


def urgent(pods: Iterable[PodState]) -> bool:
    """Whether no worker is ready, or a ready worker is about to report or to finish its drain."""
    ready = [pod for pod in pods if pod.ready]
    return not ready or any(_is_awaited(pod) for pod in ready)


def clamp(spec: FlowWorkerSpec, count: int) -> int:
    """Within the limits of the spec."""
    return min(max(count, spec.scaling.min_replicas), spec.scaling.max_replicas)


def _resume(mode: ScalingMode, situation: Situation, memory: Memory | None, tick: float) -> Memory:
    before = situation.shown_mode if memory is None else memory.mode
    if before is not mode and ScalingMode.DRY_RUN in (before, mode):
        # A dry run's numbers were never put into practice, so what runs counts.
        return seeded(mode, situation.running, tick)
    if memory is None:
        return seeded(mode, max(situation.running, situation.shown or 0), tick)
    if not trusted(memory, tick):
        return seeded(mode, max(situation.running, memory.held), tick)
    return replace(memory, mode=mode)


def _automatic(spec: FlowWorkerSpec, database: DatabaseState, memory: Memory, tick: float) -> tuple[Decision, Memory]:
    demand = fresh(database)
    if demand is None:
        desired = clamp(spec, memory.held)
        return _unknown(database, desired), _follow(memory, desired, tick, spec)
    wanted = needed(spec, demand)
    idle = demand.startable + demand.in_flight == 0
    answer = _not_yet_zero(spec, demand, memory, clamp(spec, wanted), tick)
    highest = memory.highest(tick - spec.scaling.scale_down_window_seconds)
    # The window holds back shrinking; it is no reason to grow, and does not outlast an idle time.
    held_back = min(memory.held, highest) if answer > 0 else 0
    desired = clamp(spec, max(answer, held_back))
    turns = _turn(memory, desired, tick)
    unsteady = turns is None and memory.grew and desired < memory.held
    if unsteady:
        desired = clamp(spec, memory.held)
    decision = Decision(
        desired=desired,
        reason=_reason(spec, wanted, answer, desired),
        message=_numbers(spec, demand, desired, answer, unsteady=unsteady) + _bound(spec, wanted),
        limited=_limit(spec, wanted),
        unsteady=unsteady,
    )
    horizon = tick - spec.scaling.scale_down_window_seconds
    after = remember(memory, held=desired, answer=answer, idle=idle, tick=tick, horizon=horizon, turns=turns)
    return decision, after


def _turn(memory: Memory, desired: int, tick: float) -> TokenBucket | None:
    """What is left of the turns when the number falls after it has risen; None when it does not, or none is left."""
    return take_token(memory.turns, TURNS, tick) if memory.grew and desired < memory.held else None


def _not_yet_zero(spec: FlowWorkerSpec, demand: Demand, memory: Memory, answer: int, tick: float) -> int:
    """Keep one worker until there was nothing to do for long enough and nothing is due soon."""
    if answer > 0 or memory.held == 0:
        return answer
    patience = spec.scaling.idle_seconds_before_zero
    since = tick if memory.idle_since is None else memory.idle_since
    due_soon = demand.due_in is not None and demand.due_in <= patience
    return 1 if due_soon or tick - since < patience else 0


def _reset(spec: FlowWorkerSpec, situation: Situation, *, replicas_set: bool) -> int | None:
    """The default for `spec.replicas` after External, until the status says that External was left.

    Who has written a number keeps it until its value changes, and would be taken to ask for it in the next External. A
    default that another client has written is therefore replaced, and comes back in the next round as ours.
    """
    left = situation.shown_mode is ScalingMode.EXTERNAL or not replicas_set
    if not left:
        return None
    if spec.replicas != DEFAULT_REPLICAS:
        return DEFAULT_REPLICAS
    return DEFAULT_REPLICAS + 1 if replicas_set else None


def _follow(memory: Memory, count: int, tick: float, spec: FlowWorkerSpec) -> Memory:
    """Remember a number that was not our answer as if it had been needed."""
    horizon = tick - spec.scaling.scale_down_window_seconds
    return remember(memory, held=count, answer=count, idle=False, tick=tick, horizon=horizon)


def _external(spec: FlowWorkerSpec, asked: int) -> Decision:
    return Decision(
        desired=clamp(spec, asked),
        reason=Reason.EXTERNAL,
        message=f"spec.replicas asks for {asked}" + _bound(spec, asked),
        limited=_limit(spec, asked),
    )


def _paused(running: int) -> Decision:
    return Decision(desired=running, reason=Reason.PAUSED, message=f"paused with {running}")


def _unknown(database: DatabaseState, desired: int) -> Decision:
    why = "the database has not been read yet" if database.age is None else "the last reading is too old"
    return Decision(desired=desired, reason=Reason.UNKNOWN, message=f"keeping {desired}: {why}")


def _reason(spec: FlowWorkerSpec, wanted: int, answer: int, desired: int) -> Reason:
    if desired > answer:
        return Reason.WINDOW
    if wanted > 0:
        return Reason.BACKLOG
    return Reason.IDLE if desired == spec.scaling.min_replicas else Reason.COOLING_DOWN


def _numbers(spec: FlowWorkerSpec, demand: Demand, desired: int, answer: int, *, unsteady: bool) -> str:
    text = f"{demand.startable} startable + {demand.in_flight} in flight at {spec.tasks_per_replica} per replica"
    window = spec.scaling.scale_down_window_seconds
    if unsteady and desired > answer:
        return (
            f"{text} need {answer}; {desired} are kept for some seconds, because the need goes up and down all the time"
        )
    return text if desired <= answer else f"{text} need {answer}; {desired} were needed in the last {window} s"


def _limit(spec: FlowWorkerSpec, wanted: int) -> str | None:
    most = spec.scaling.max_replicas
    return f"{wanted} workers are wanted, maxReplicas is {most}" if wanted > most else None


def _bound(spec: FlowWorkerSpec, wanted: int) -> str:
    """Which limit of the spec has the last word, to go on with in a message."""
    least, most = spec.scaling.min_replicas, spec.scaling.max_replicas
    if wanted > most:
        return f"; maxReplicas is {most}"
    return f"; minReplicas is {least}" if wanted < least else ""


def _divide_up(count: int, size: int) -> int:
    return -(-count // size)


def _is_awaited(pod: PodState) -> bool:
    if pod.report is None or pod.report.state is WorkerState.STARTING:
        return True
    return pod.drain is not None and pod.report.state not in _OVER
