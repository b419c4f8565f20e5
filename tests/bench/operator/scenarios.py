"""What is measured of the operator, each on a real API server and a real PostgreSQL."""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

from testkit.cluster.control_plane import ControlPlane
from testkit.support.waiting import hold_for
from tests.chaos.arena import Arena
from tests.chaos.workloads import jobs, single
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import new_world
from tests.control_plane.scale.changing import change
from tests.control_plane.scale.crowd import STRAINED, Crowd, new_crowd, stand_in_world
from tests.control_plane.scale.neighbours import new_neighbours
from tests.control_plane.scale.waking import wake

from flowworker.bench.figures import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    wakes: int
    changes: int
    """With a worker, and as many without."""
    crowd: int
    idle_seconds: float
    strained: int
    """FlowWorkers whose work changes."""
    strained_seconds: float
    tenants: int
    """FlowWorkers with a database each, of which a fifth are silent and a fifth slow."""


FULL = Extent(
    wakes=60, changes=10, crowd=200, idle_seconds=120, strained=20, strained_seconds=60, tenants=500
)  # fmt: skip
QUICK = Extent(wakes=6, changes=2, crowd=20, idle_seconds=20, strained=4, strained_seconds=20, tenants=20)
MOST_TENANTS = 500
"""What the server has connections for."""
BETWEEN_WAKES = 1.7
"""Seconds between two of them among many: each is some twenty requests to an API server that has two processors."""

SETTLING = 60.0
"""Seconds after the last write until memory is looked at; as long as the re-list takes to come by."""
GROWING = 20.0
"""Seconds in which a changing load reaches the most workers; each step is a patch, an event and a status."""
SEED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it is measured."""

    control_plane: ControlPlane
    arena: Arena


Values: TypeAlias = Mapping[str, float | Sequence[float]]
"""By the name of what was measured; single measurements where there are several."""


async def waking(site: Site, extent: Extent) -> Values:
    """A backlog at zero replicas, of a queue whose inserts are announced, and of one that the operator looks at."""
    values: dict[str, float | Sequence[float]] = {}
    for way, announced in (("announced", True), ("looked for", False)):
        async with site.arena.ground(jobs) as ground, stand_in_world(site.control_plane, ground) as (world, _):
            took = await wake(world, extent.wakes, random.Random(SEED), announced=announced)
        values |= {f"{way} p50": percentile(took, 0.5), f"{way} p99": percentile(took, 0.99), f"{way} wakes": took}
    return values


async def changing(site: Site, extent: Extent) -> Values:
    """New revisions, with real workers."""
    took: dict[str, Sequence[float]] = {}
    for least in (0, 1):
        namespace = f"bench-{uuid4().hex[:10]}"
        site.control_plane.create_namespace(namespace, RESTRICTED)
        async with site.arena.ground(single) as ground, new_world(site.control_plane, namespace, ground) as world:
            took[f"changes with {least} workers"] = await change(world, extent.changes, least=least)
        site.control_plane.api.delete(f"/api/v1/namespaces/{namespace}")
    return {"change p95": percentile([one for some in took.values() for one in some], 0.95), **took}


async def alone(site: Site, extent: Extent) -> Values:
    """One FlowWorker."""
    del extent
    async with new_crowd(site.control_plane, site.arena, 1) as crowd:
        await _settled(crowd)
        return {"memory with one": crowd.memory()}


async def crowded(site: Site, extent: Extent) -> Values:
    """Many FlowWorkers that are created at once and then have nothing to do."""
    async with new_crowd(site.control_plane, site.arena, extent.crowd) as crowd:
        conditions = await _settled(crowd)
        memory = crowd.memory()
        rest = await crowd.rest(extent.idle_seconds)
    return {
        "conditions": conditions,
        "memory with many": memory,
        "connections": max(rest.connections, rest.accepted),
        "statements per second": rest.statements_per_second,
        "idle writes": len(rest.writes),
        "idle processor": 100 * rest.processor_seconds / rest.seconds,
    }


async def strained(site: Site, extent: Extent) -> Values:
    """Work that changes all the time."""
    async with new_crowd(site.control_plane, site.arena, extent.strained, only_queues=True) as crowd:
        await crowd.apply(STRAINED)
        await crowd.until_ready()
        chance = random.Random(SEED)
        growing = await crowd.strain(GROWING, chance)
        return {"writes while growing": growing, "writes": await crowd.strain(extent.strained_seconds, chance)}


async def neighbours(site: Site, extent: Extent) -> Values:
    """Many FlowWorkers with a database each, before and after a fifth of these fall silent and a fifth become slow."""
    bad, chance = extent.tenants // 5, random.Random(SEED)
    good = extent.tenants - 2 * bad
    async with new_neighbours(site.control_plane, site.arena, silent=bad, slow=bad, good=good) as found:
        times = min(good, 100)
        before = await found.wake(times, BETWEEN_WAKES, chance)
        await found.spoil()
        after = await found.wake(times, BETWEEN_WAKES, chance)
    return {
        "good p99 before": percentile(before.took, 0.99),
        "good p50": percentile(after.took, 0.5),
        "good p99": percentile(after.took, 0.99),
        "good wakes": after.took,
        "memory with tenants": after.memory,
        "processor with tenants": 100 * after.processor_seconds / after.seconds,
        "longest renewal": after.longest_renewal,
    }


async def _settled(crowd: Crowd) -> float:
    conditions = await crowd.apply()
    await crowd.until_ready()
    await hold_for(SETTLING)
    return conditions


Scenario: TypeAlias = Callable[[Site, Extent], Coroutine[Any, Any, Values]]
SCENARIOS: Mapping[str, Scenario] = {
    "waking": waking,
    "changing": changing,
    "alone": alone,
    "crowded": crowded,
    "strained": strained,
    "neighbours": neighbours,
}
