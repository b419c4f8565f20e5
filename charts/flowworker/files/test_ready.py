"""Waits until the operator is ready and serves metrics; fails with what it last answered."""

import os
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

OPERATOR, PATIENCE = os.environ["OPERATOR"], float(os.environ["PATIENCE"])


def answer(path: str) -> str:
    """What the operator says; an error says so too."""
    try:
        with urlopen(OPERATOR + path, timeout=5) as response:  # noqa: S310 (the chart says where)
            return response.read().decode()
    except (URLError, OSError) as error:
        return f"error: {error}"


deadline = time.monotonic() + PATIENCE
while (ready := answer("/readyz")).startswith("error"):
    if time.monotonic() > deadline:
        sys.exit(f"{OPERATOR}/readyz: {ready}")
    time.sleep(1)
if "flowworker_operator_" not in (metrics := answer("/metrics")):
    sys.exit(f"{OPERATOR}/metrics has nothing of the operator: {metrics[:500]}")
print("the operator is ready and serves metrics")
