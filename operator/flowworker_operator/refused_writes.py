"""Writes that the API server has refused, and when each may be tried again.

A refusal is final as long as nothing changes: the same write is tried ever more rarely. What it depends on and can be
seen is part of its key, so that a change there is tried at once. What cannot be seen, such as a policy, a quota or a
webhook of the cluster, is why it is tried again at all.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from flowworker_operator.api.conditions import Reason
from flowworker_operator.bounded import Recent
from flowworker_operator.domain.snapshot import Fault

FIRST_PAUSE = 5.0
"""Seconds from the first refusal to the second try; each later pause is twice as long."""
LONGEST_PAUSE = 300.0
LONGEST_PAUSES = {Reason.WEBHOOK_FAILED: 10.0, Reason.QUOTA: 60.0}
"""Reasons that pass without a change of the FlowWorker."""
REMEMBERED = 500
"""Refused writes at most; one that is forgotten is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refused write."""

    fault: Fault
    tries: int
    again_at: float
    """Monotonic seconds."""


def pause(tries: int, reason: Reason) -> float:
    """Seconds to wait after so many refusals in a row."""
    return min(LONGEST_PAUSES.get(reason, LONGEST_PAUSE), FIRST_PAUSE * 2.0 ** min(tries - 1, 16))


class RefusedWrites:
    """Remembers the refused writes for one FlowWorker by a key that names the write and what it depends on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Remember nothing; `clock` gives monotonic seconds."""
        self._clock = clock
        self._known: Recent[Hashable, Refusal] = Recent(REMEMBERED)

    def standing(self, key: Hashable) -> Fault | None:
        """Why a write need not be tried now; None when it may be."""
        known = self._known.get(key)
        return known.fault if known is not None and self._clock() < known.again_at else None

    def refused(self, key: Hashable, fault: Fault) -> None:
        """Take in that a write was refused."""
        known = self._known.get(key)
        tries = 1 if known is None else known.tries + 1
        self._known.set(key, Refusal(fault=fault, tries=tries, again_at=self._clock() + pause(tries, fault.reason)))

    def taken(self, key: Hashable) -> None:
        """Take in that a write went through."""
        self._known.drop(key)
