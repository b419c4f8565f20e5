"""Many tenants with a database each, of which some answer late and some not at all, and how soon the others wake."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from testkit.cluster.control_plane import ControlPlane
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.control_plane.operator.world import FLOWWORKERS, Object
from tests.control_plane.scale.crowd import Crowd, new_crowd

from flowworker.bench.observing import processor_seconds
from flowworker.database.identifiers import queue_table
from flowworker_operator.cluster.lease import Timing

LATENCY = 1.0
"""Seconds that each chunk of a slow database takes, in each direction: two for an answer."""
NOTICED_WITHIN = 120.0
"""Seconds until all who have no answer say so."""
LOOK_EVERY = 1.0
"""Seconds between two looks at each; when it was woken, the audit log shows."""
WOKEN_WITHIN = 60.0
"""Seconds; only so that a test ends in which the operator sleeps."""
AT_ONCE = {"minReplicas": 0, "maxReplicas": 1, "idleSecondsBeforeZero": 0, "scaleDownWindowSeconds": 0}
SEND = "SELECT pgmq.send($1, '{}')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waking:
    """What was seen while the good ones were woken."""

    took: Sequence[float]
    """Seconds from each insert to the answer to the operator's patch."""
    seconds: float
    processor_seconds: float
    memory: float
    late_renewals: int
    longest_renewal: float
    """Seconds between two renewals of the Lease."""


@dataclass(slots=True, kw_only=True)
class Neighbours:
    """FlowWorkers with a connection each: first those whose databases fall silent, then the slow, then the good."""

    crowd: Crowd
    silent: int
    slow: int
    holes: Proxy
    marsh: Proxy
    _owner_is_free: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def good(self) -> Sequence[int]:
        """Those whose databases are well."""
        return range(self.silent + self.slow, self.crowd.size)

    async def spoil(self) -> None:
        """Let the bad databases be bad from now on; returns once every silent one says so."""
        self.holes.weather = Weather.SWALLOWED
        self.marsh.latency = LATENCY
        world = self.crowd.world

        async def noticed() -> bool:
            found = {one["metadata"]["name"]: one for one in await world.list(FLOWWORKERS)}
            return not any(_is_reached(found[f"load-{number}"]) for number in range(self.silent))

        await until(noticed, "the silent databases are noticed", patience=NOTICED_WITHIN, every=1.0)

    async def wake(self, times: int, every: float, chance: random.Random) -> Waking:
        """Let a backlog appear at one of the good ones after the other, and go again when a worker is asked for.

        Args:
            times: how many of them; no one twice.
            every: seconds between two of them, on average.
            chance: chooses them and the moments.
        """
        loop, world = asyncio.get_running_loop(), self.crowd.world
        pid = world.operator.pid
        began, used, first = loop.time(), processor_seconds(pid) or 0.0, datetime.now(UTC)
        tasks: dict[int, asyncio.Task[datetime]] = {}
        most = self.crowd.memory()
        for number in chance.sample(self.good, times):
            tasks[number] = asyncio.create_task(self._wake_one(number))
            await hold_for(2 * every * chance.random())
            most = max(most, self.crowd.memory())
        moments = {number: await task for number, task in tasks.items()}
        seconds, used = loop.time() - began, (processor_seconds(pid) or 0.0) - used
        requests = await asyncio.to_thread(world.audited, world.operator.user)
        gaps = _renewal_gaps(requests, first)
        return Waking(
            took=_delays(moments, requests),
            seconds=seconds,
            processor_seconds=used,
            memory=most,
            late_renewals=sum(gap > 2 * Timing().retry for gap in gaps),
            longest_renewal=max(gaps, default=0.0),
        )

    async def _wake_one(self, number: int) -> datetime:
        queue, world = f"load_{number}", self.crowd.world
        began = datetime.now(UTC)
        await self._say(SEND, queue)

        async def woken() -> bool:
            return await world.replicas(f"load-{number}") == 1

        await until(woken, f"load-{number} is woken", patience=WOKEN_WITHIN, every=LOOK_EVERY)
        await self._say(f"DELETE FROM {queue_table(queue)}")
        return began

    async def _say(self, statement: str, *values: str) -> None:
        async with self._owner_is_free:
            await self.crowd.world.ground.owner.execute(statement, *values)


@asynccontextmanager
async def new_neighbours(
    control_plane: ControlPlane, arena: Arena, *, silent: int, slow: int, good: int
) -> AsyncGenerator[Neighbours]:
    """So many FlowWorkers at rest, all of whose databases are well so far. The server must take as many connections."""
    size = silent + slow + good
    async with AsyncExitStack() as stack:
        crowd = await stack.enter_async_context(new_crowd(control_plane, arena, size, only_queues=True))
        port = arena.server.port
        holes, marsh = [await stack.enter_async_context(Proxy(port)) for _ in range(2)]
        dsn = crowd.world.ground.database.worker_dsn
        for number in range(size):
            way = holes.dsn(dsn) if number < silent else marsh.dsn(dsn) if number < silent + slow else dsn
            sign = "&" if "?" in way else "?"
            await crowd.world.secret(f"{way}{sign}application_name=load-{number}", name=_secret(number))
        crowd.secret = _secret
        await crowd.apply(AT_ONCE)
        await crowd.until_ready()
        yield Neighbours(crowd=crowd, silent=silent, slow=slow, holes=holes, marsh=marsh)


def _secret(number: int) -> str:
    return f"postgres-{number}"


def _is_reached(flowworker: Object) -> bool:
    conditions = flowworker["status"]["conditions"]
    return any((one["type"], one["status"]) == ("DatabaseReachable", "True") for one in conditions)


def _delays(moments: Mapping[int, datetime], requests: Sequence[Object]) -> Sequence[float]:
    patches = [
        (one["objectRef"]["name"].rpartition("-")[0], datetime.fromisoformat(one["stageTimestamp"]))
        for one in requests
        if _is_patch_of(one, "deployments")
    ]
    return [
        min((at - began).total_seconds() for name, at in patches if name == f"load-{number}" and at > began)
        for number, began in moments.items()
    ]


def _is_patch_of(audited: Object, resource: str) -> bool:
    return audited["verb"] == "patch" and audited.get("objectRef", {}).get("resource") == resource


def _renewal_gaps(requests: Sequence[Object], since: datetime) -> Sequence[float]:
    times = [datetime.fromisoformat(one["stageTimestamp"]) for one in requests if _is_patch_of(one, "leases")]
    times = [one for one in times if one >= since]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
