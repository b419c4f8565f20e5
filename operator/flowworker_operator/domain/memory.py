"""What scaling remembers between two decisions, and how it is found again without it.

A window is a promise not to shrink too early. The memory lives in the process; after a restart, or when the operator
was frozen, it is seeded with the number of workers that are there, as if they had been needed just now. So a gap can
only make a window longer. Nothing read from the status can do the opposite: the status says nothing about what happened
while the operator was down or frozen.
"""

from dataclasses import dataclass, replace

from flowworker_operator.api.spec import ScalingMode
from flowworker_operator.bounded import TokenBucket

LONGEST_GAP = 30.0
"""Seconds between two decisions after which the memory is no longer trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A number of workers that was needed at some time."""

    tick: float
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """State of the scaling windows."""

    mode: ScalingMode
    held: int
    """Workers wanted by the last decision."""
    tick: float
    """Time of the last decision, in seconds of a monotonic clock."""
    idle_since: float | None
    """Since when every decision saw nothing to do."""
    peaks: tuple[Peak, ...]
    """Answers of the window that no later one exceeds: values fall as ticks rise."""
    grew: bool = False
    """The number has risen since it fell last."""
    turns: TokenBucket | None = None
    """How often the number may still fall after it has risen; None for as often as it ever may."""

    def highest(self, since: float) -> int:
        """The highest answer at or after a time; 0 when there is none."""
        return max((peak.value for peak in self.peaks if peak.tick >= since), default=0)


def seeded(mode: ScalingMode, held: int, tick: float) -> Memory:
    """A memory for which `held` workers were needed just now."""
    return Memory(mode=mode, held=held, tick=tick, idle_since=None, peaks=(Peak(tick=tick, value=held),))


def trusted(memory: Memory | None, tick: float) -> bool:
    """Whether decisions followed each other closely enough for windows to be known."""
    return memory is not None and 0 <= tick - memory.tick <= LONGEST_GAP


def remember(
    memory: Memory,
    *,
    held: int,
    answer: int,
    idle: bool,
    tick: float,
    horizon: float,
    turns: TokenBucket | None = None,
) -> Memory:
    """The memory after one more decision.

    Args:
        memory: before the decision.
        held: workers wanted.
        answer: workers needed, without windows.
        idle: nothing to do was seen, for sure.
        tick: time of the decision.
        horizon: answers before this time may be forgotten.
        turns: what is left of them after this one; None where it was none.
    """
    kept = [peak for peak in memory.peaks if peak.tick >= horizon and peak.value > answer]
    since = memory.idle_since if memory.idle_since is not None else tick
    return replace(
        memory,
        held=held,
        tick=tick,
        idle_since=since if idle else None,
        peaks=(*kept, Peak(tick=tick, value=answer)),
        grew=memory.grew if held == memory.held else held > memory.held,
        turns=turns or memory.turns,
    )
