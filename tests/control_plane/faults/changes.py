"""Things that happen to a FlowWorker, each of which can be done again and again to the same one."""

from collections.abc import Mapping
from typing import Any, Protocol

from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import FLOWWORKERS, PODS, SHORT, World

NAME = "report"
SCALING = {**SHORT, "minReplicas": 1, "maxReplicas": 2, "tasksPerReplica": 4}
"""One worker stays, so that every end is reached with a worker at work."""
UNFINISHED = "SELECT count(*) FROM pgflow.runs WHERE status = 'started'"

Object = dict[str, Any]


class Change(Protocol):
    """One thing that happens."""

    async def prepare(self, world: World) -> None:
        """Bring about what has to be there before; called before every change, with a living operator."""
        ...

    async def make(self, world: World) -> None:
        """Do it, without waiting for its effect."""
        ...

    async def is_complete(self, world: World) -> bool:
        """Whether the operator has done its part; asked again and again."""
        ...


class Creation:
    """A FlowWorker is created."""

    async def prepare(self, world: World) -> None:
        await world.delete(FLOWWORKERS, NAME)
        await world.until_pods(NAME, set())

    async def make(self, world: World) -> None:
        await world.apply(NAME, scaling=SCALING)

    async def is_complete(self, world: World) -> bool:
        return await runs_one(world)


class Recreation:
    """A FlowWorker is deleted and created anew under its name, while what belonged to the old one is still there."""

    async def prepare(self, world: World) -> None:
        await with_one(world)

    async def make(self, world: World) -> None:
        await world.delete(FLOWWORKERS, NAME)
        await world.apply(NAME, scaling=SCALING)

    async def is_complete(self, world: World) -> bool:
        uid = (await world.flowworker(NAME))["metadata"]["uid"]
        return await runs_one(world) and await owners(world) == {uid}


class NewTemplate:
    """The image changes."""

    def __init__(self) -> None:
        self._number = 0

    async def prepare(self, world: World) -> None:
        await with_one(world)

    async def make(self, world: World) -> None:
        self._number += 1
        await world.patch(FLOWWORKERS, NAME, {"spec": {"image": self._image}})

    async def is_complete(self, world: World) -> bool:
        images = [image_of(deployment) for deployment in await world.deployments(NAME)]
        return images == [self._image] and await runs_one(world)

    @property
    def _image(self) -> str:
        return f"localhost/flowworker:{self._number}"


class Backlog:
    """More work comes than one worker is meant for, and is done."""

    def __init__(self) -> None:
        self._number = 0
        self._grown = False

    async def prepare(self, world: World) -> None:
        await with_one(world)

    async def make(self, world: World) -> None:
        self._number += 1
        self._grown = False
        for _ in range(8):
            await world.ground.start_run(single, Plan(gate=self._gate))

    async def is_complete(self, world: World) -> bool:
        if not self._grown:
            busy = {execution.worker for execution in world.ground.executions() if execution.ended is None}
            self._grown = len(busy) == 2
            if self._grown:
                world.ground.open_gate(self._gate)
            return False
        return await world.ground.owner.fetchval(UNFINISHED) == 0 and await runs_one(world)

    @property
    def _gate(self) -> str:
        return f"gate-{self._number}"


async def with_one(world: World) -> None:
    """Have a FlowWorker with one worker."""
    if await world.find(FLOWWORKERS, NAME) is None:
        await world.apply(NAME, scaling=SCALING)
    await world.until_condition(NAME, "Ready", "True", "Running")


async def runs_one(world: World) -> bool:
    """Whether exactly one worker is there, and ready, and the status says so."""
    condition = await world.condition(NAME, "Ready")
    pods = await world.list(f"{PODS}?labelSelector=flowworker.dev/name={NAME}")
    ready = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    replicas = await world.replicas(NAME)
    return condition.get("reason") == "Running" and len(ready) == len(pods) == replicas == 1


async def owners(world: World) -> set[str]:
    """Uids of the owners of all Deployments."""
    deployments = await world.deployments(NAME)
    return {owner["uid"] for deployment in deployments for owner in deployment["metadata"]["ownerReferences"]}


def image_of(deployment: Mapping[str, Any]) -> str:
    """Image of the workers of a Deployment."""
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]
