"""Many FlowWorkers on one database, for flows and for queues, and what their operator costs."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from testkit.cluster.control_plane import ControlPlane
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import FLOWWORKERS, SECRET, SHORT, Object, World
from tests.control_plane.scale.stand_in_kubelet import StandInKubelet

from flowworker.bench.observing import processor_seconds, resident_bytes
from flowworker.database.identifiers import queue_table

MEBIBYTE = 2**20
TOGETHER = 20
"""Requests of ours at the same time."""
CONVERGED_WITHIN = 400.0
"""Seconds; most of them are the controller manager's and our own, who make and play hundreds of pods."""
LIST_EVERY = 0.005
"""Seconds for each of them: to list them costs the API server more, the more there are."""
SETTLED_FOR = 4.0
"""Seconds in which a settled operator makes at most `SETTLED_STATEMENTS`: one look each second, and two to spare."""

SETTLED_STATEMENTS = 6

QUIET = 4.0
"""Seconds without a write of the operator after which nothing is left to do."""
STRAINED = {"minReplicas": 1, "maxReplicas": 10, "tasksPerReplica": 4}
"""Limits that a changing load reaches, and the windows that a user gets who sets none."""
WRITES = "flowworker_operator_api_writes_total{"
CHANGE_EVERY = 0.5
MOST_WAITING = 40

WORKLOADS = """
    SELECT
        CASE WHEN n < $2
            THEN (SELECT count(*) FROM (
                SELECT pgflow.create_flow('load_' || n), pgflow.add_step('load_' || n, 'only')
            ) AS created)
            ELSE (SELECT count(*) FROM (SELECT pgmq.create('load_' || n)) AS created)
        END
    FROM generate_series(0, $1 - 1) AS n
"""
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'flowworker-operator' AND datname = current_database()
"""
WAITING = """
    WITH before AS (DELETE FROM {table})
    SELECT count(*) FROM pgmq.send_batch('{queue}', array_fill('{{}}'::jsonb, ARRAY[{count}]))
"""
"""Not by pgmq.purge_queue, which locks out all readers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What the operator did while there was nothing to do."""

    seconds: float
    writes: Sequence[str]
    statements: int
    connections: int
    """Most at once."""
    accepted: int
    """Connections that were opened since the operator's start."""
    processor_seconds: float

    @property
    def statements_per_second(self) -> float:
        """Of the database."""
        return self.statements / self.seconds


@dataclass(slots=True, kw_only=True)
class Crowd:
    """The FlowWorkers `load-0`, `load-1` and so on, with the operator that looks after them."""

    world: World
    kubelet: StandInKubelet
    size: int
    flows: int
    """How many of them, the first ones, are for flows; the others are for queues."""
    secret: Callable[[int], str] = lambda _: SECRET
    """Which Secret holds the connection string of which."""

    async def apply(self, scaling: Mapping[str, Any] | None = None) -> float:
        """Apply all at once; seconds until the last one has its conditions.

        Every second one keeps a worker, unless `scaling` says otherwise.
        """
        began, doors = time.monotonic(), asyncio.Semaphore(TOGETHER)

        async def one(number: int) -> None:
            async with doors:
                spec = _spec(number, scaling, flow=number < self.flows)
                await self.world.apply(f"load-{number}", **spec, database={"secretRef": {"name": self.secret(number)}})

        await asyncio.gather(*map(one, range(self.size)))
        await self._until_all(_conditions, "all have conditions")
        return time.monotonic() - began

    async def until_ready(self) -> None:
        """Wait until all are Ready, those that keep no worker without one, and until nothing is written any more."""
        await self._until_all(_is_settled, "all are Ready")
        seen, since = -1.0, time.monotonic()

        async def quiet() -> bool:
            nonlocal seen, since
            count = await asyncio.to_thread(self._counted_writes)
            if count != seen:
                seen, since = count, time.monotonic()
            return time.monotonic() - since >= QUIET

        await until(quiet, "the operator writes nothing any more", patience=CONVERGED_WITHIN, every=0.5)

    async def until_settled(self) -> None:
        """Wait until the database is asked no more than at rest.

        Pods of a crowd are deleted while they run, so for some seconds the operator is in doubt about their workers.
        """
        proxy = self.world.ground.proxy
        seen, since = proxy.begun, time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            now = time.monotonic()
            if proxy.begun - seen > SETTLED_STATEMENTS:
                seen, since = proxy.begun, now
            return now - since >= SETTLED_FOR

        await until(settled, "the operator asks its database only what it asks at rest", patience=CONVERGED_WITHIN)

    async def rest(self, seconds: float) -> Rest:
        """Watch the operator for some time."""
        proxy, pid = self.world.ground.proxy, self.world.operator.pid
        written, statements = len(await self.writes()), proxy.begun
        used, began = _processor(pid), time.monotonic()
        most = 0
        while time.monotonic() - began < seconds:
            most = max(most, await self.connections())
            await hold_for(0.25)
        took = time.monotonic() - began
        return Rest(
            seconds=took,
            statements=proxy.begun - statements,
            processor_seconds=_processor(pid) - used,
            connections=most,
            accepted=proxy.accepted,
            writes=(await self.writes())[written:],
        )

    async def strain(self, seconds: float, chance: random.Random) -> float:
        """Change the work of all queues all the time; writes of the operator per FlowWorker and second."""
        assert self.flows == 0, "the work of flows does not change here"
        written, began = len(await self.writes()), time.monotonic()
        waiting = {f"load_{number}": 0 for number in range(self.size)}
        self.kubelet.busy = True
        while time.monotonic() - began < seconds:
            for queue in waiting:
                waiting[queue] = min(MOST_WAITING, max(1, waiting[queue] + chance.randint(-8, 8)))
                text = WAITING.format(table=queue_table(queue), queue=queue, count=waiting[queue])
                await self.world.ground.owner.execute(text)
            await hold_for(CHANGE_EVERY)
        self.kubelet.busy = False
        more = len(await self.writes()) - written
        return more / (time.monotonic() - began) / self.size

    async def writes(self) -> Sequence[str]:
        """Everything that the operator has written, Leases aside."""
        return await asyncio.to_thread(self.world.writes, self.world.operator.user)

    async def connections(self) -> int:
        """Connections of the operator to the database."""
        return await self.world.ground.owner.fetchval(CONNECTIONS)

    def _counted_writes(self) -> float:
        """By the operator's own count, which costs less to ask for than the audit log."""
        counts = self.world.metrics().items()
        return sum(value for name, value in counts if name.startswith(WRITES) and "leases" not in name)

    def memory(self) -> float:
        """Resident memory of the operator in MiB."""
        resident = resident_bytes(self.world.operator.pid)
        assert resident is not None
        return resident / MEBIBYTE

    async def _until_all(self, met: Callable[[Object], object], what: str) -> None:
        async def all_met() -> bool:
            self.kubelet.check()
            found = await self.world.list(FLOWWORKERS)
            return len(found) == self.size and all(map(met, found))

        try:
            await until(all_met, what, patience=CONVERGED_WITHIN, every=LIST_EVERY * self.size)
        except AssertionError as error:
            odd = [one for one in await self.world.list(FLOWWORKERS) if not met(one)]
            log = self.world.operator.log()[-3000:]
            raise AssertionError(f"{error}; {len(odd)} are not, such as {odd[:2]}\n{log}") from None


@asynccontextmanager
async def new_crowd(
    control_plane: ControlPlane, arena: Arena, size: int, *, only_queues: bool = False
) -> AsyncGenerator[Crowd]:
    """A namespace with an operator, a database with the work of so many FlowWorkers, and none of these yet.

    The operator reaches its database through the ground's proxy, which counts its statements.
    """
    async with arena.ground() as ground, stand_in_world(control_plane, ground) as (world, kubelet):
        flows = 0 if only_queues else size // 2
        await ground.owner.fetch(WORKLOADS, size, flows)
        yield Crowd(world=world, kubelet=kubelet, size=size, flows=flows)
        complaints = world.operator.complaints()
    assert not complaints, "\n".join(complaints)


@asynccontextmanager
async def stand_in_world(control_plane: ControlPlane, ground: Ground) -> AsyncGenerator[tuple[World, StandInKubelet]]:
    """A world of its own namespace whose pods have no processes."""
    namespace = f"test-{uuid4().hex[:10]}"
    control_plane.create_namespace(namespace, RESTRICTED)
    async with AsyncExitStack() as stack:
        stack.callback(control_plane.api.delete, f"/api/v1/namespaces/{namespace}")
        database = await ground.database.connect()
        stack.push_async_callback(database.close)
        kubelet = StandInKubelet(
            api=control_plane.api, namespace=namespace, folder=ground.folder / "pods", database=database
        )
        await stack.enter_async_context(kubelet)
        world = World(
            control_plane=control_plane, namespace=namespace, ground=ground, kubelet=kubelet, folder=ground.folder
        )
        await world.secret(ground.proxy.dsn(ground.database.worker_dsn))
        operator = world.another_operator("operator-0")
        stack.push_async_callback(operator.close)
        await operator.start()
        yield world, kubelet


def _spec(number: int, scaling: Mapping[str, Any] | None, *, flow: bool) -> dict[str, Any]:
    slug = f"load_{number}"
    own: Mapping[str, Any] = {**SHORT, "minReplicas": number % 2, "maxReplicas": 3} if scaling is None else scaling
    work = {"flow": slug} if flow else {"flow": None, "queue": slug}
    return {**work, "handler": f"load.work:{slug}", "scaling": dict(own)}


def _conditions(flowworker: Object) -> Sequence[Object]:
    nothing: Object = {}
    return flowworker.get("status", nothing).get("conditions", ())


def _is_settled(flowworker: Object) -> bool:
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in _conditions(flowworker))
    least = flowworker["spec"]["scaling"]["minReplicas"]
    return ready and flowworker["status"].get("replicas", 0) == least


def _processor(pid: int) -> float:
    used = processor_seconds(pid)
    assert used is not None
    return used
