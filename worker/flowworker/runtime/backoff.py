"""How long to wait before trying the database again."""

from collections.abc import Callable

BASE = 0.25
CAP = 5.0

Randomness = Callable[[], float]
"""A number from 0 up to 1, as `random.random` gives."""


def backoff(failures: int, randomness: Randomness, *, base: float = BASE, cap: float = CAP) -> float:
    """Seconds to wait after `failures` failures in a row (at least 1): exponential with full jitter.

    The whole interval is random, so that a fleet which lost its database together does not come back together.
    """
    ceiling = min(cap, base * 2.0 ** min(failures, 32))
    return randomness() * ceiling
