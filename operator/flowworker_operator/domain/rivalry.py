"""Which of several installations serves a FlowWorker: pure, from what its status says and what was asked before.

Two installations that look after one namespace have Leases of their own and do not know of each other. Of different
versions, each would make another pod template of the same spec, and replace the other's workers without end. So the
first one writes its name into the status, and another one serves nothing under that name. Whether the first one still
lives it finds out by a challenge, also in the status, which the living one takes away. Nothing is written as long as
there is one installation.
"""

from dataclasses import dataclass
from enum import StrEnum

from flowworker_operator.api.model import Model
from flowworker_operator.api.status import Installation

ANSWERED_WITHIN = 60.0
"""Seconds: more than a restart of an operator or a change of its leader takes."""
ASKED_AGAIN_AFTER = 600.0
"""Seconds from one challenge to the next; a change of the spec, for which a user waits, is a reason to ask sooner."""


class Stance(StrEnum):
    """What to do about a FlowWorker."""

    SERVE = "serve"
    CLAIM = "claim"
    """Write our name, then serve."""
    ANSWER = "answer"
    """Take a challenge away, then serve."""
    CHALLENGE = "challenge"
    STAND_BACK = "stand back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A challenge of ours."""

    at: float
    """Monotonic seconds."""
    generation: int
    """Of the FlowWorker at that time."""


class Names(Model):
    """What the status of a FlowWorker says about installations."""

    served_by: Installation | None = None
    challenged_by: Installation | None = None


def stance(names: Names, me: Installation, asked: Asked | None, *, generation: int, tick: float) -> Stance:
    """What to do.

    Args:
        names: in its status.
        me: this installation.
        asked: our last challenge that this process knows of.
        generation: of the FlowWorker.
        tick: monotonic seconds.
    """
    holder, challenger = names.served_by, names.challenged_by
    if holder is None:
        return Stance.CLAIM
    if holder.release == me.release:
        if challenger is not None:
            return Stance.ANSWER
        return Stance.SERVE if holder == me else Stance.CLAIM
    if asked is None:
        return Stance.CHALLENGE
    if challenger is not None and challenger.release == me.release:
        return Stance.CLAIM if tick - asked.at >= ANSWERED_WITHIN else Stance.STAND_BACK
    pause = ASKED_AGAIN_AFTER if generation == asked.generation else ANSWERED_WITHIN
    return Stance.CHALLENGE if tick - asked.at >= pause else Stance.STAND_BACK
