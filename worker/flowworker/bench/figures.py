"""From measurements to figures and their verdicts. Pure."""

from collections.abc import Sequence
from datetime import datetime

SETTLED = (0.1, 0.9)
"""The part of a round that counts: neither the start nor the end is steady."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, so no percentile")
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]


def steady_rate(moments: Sequence[datetime]) -> float:
    """Tasks per second in the middle of a round.

    Tasks end in batches, so the window reaches from the end of one batch to the end of another one, and only what
    ended after the first of the two is counted.

    Args:
        moments: when each task ended, in any order.

    Raises:
        ValueError: they all ended at once.
    """
    ordered = sorted(moments)
    begin = ordered[int(len(ordered) * SETTLED[0])]
    end = ordered[min(len(ordered) - 1, int(len(ordered) * SETTLED[1]))]
    if begin == end:
        raise ValueError(f"{len(ordered)} tasks ended at the same moment: too few for a rate")
    return sum(begin < moment <= end for moment in ordered) / (end - begin).total_seconds()
