"""From a change of the spec to Ready for exactly that spec, with real workers."""

import time
from collections.abc import Sequence

from tests.control_plane.operator.world import QUICK, Object, World

NAME = "report"


async def change(world: World, times: int, *, least: int) -> Sequence[float]:
    """Ask for a new revision again and again; seconds from each change to its being Ready.

    Args:
        world: with workers that are real processes.
        times: changes.
        least: `minReplicas`: with 0 each revision proves itself and goes, with 1 it replaces the one before.
    """
    scaling = {"minReplicas": least, "idleSecondsBeforeZero": 0, "scaleDownWindowSeconds": 0}
    took: list[float] = []
    for number in range(times + 1):
        began = time.monotonic()
        applied = await world.apply(NAME, worker={**QUICK, "maxConcurrency": 2 + number}, scaling=scaling)
        generation = applied["metadata"]["generation"]
        await world.until_flowworker(NAME, lambda found, at=generation: _is_ready(found, at), "become Ready again")
        took.append(time.monotonic() - began)
    return took[1:]


def _is_ready(flowworker: Object, generation: int) -> bool:
    nothing: Object = {}
    status = flowworker.get("status", nothing)
    ready = any(
        one["type"] == "Ready" and one["status"] == "True" and one["observedGeneration"] == generation
        for one in status.get("conditions", ())
    )
    return ready and status["revision"]["proven"]
