"""A world whose operators reach the API server only through proxies."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from testkit.cluster.certificates import Authority
from testkit.cluster.control_plane import ControlPlane
from testkit.support.api_proxy import ApiProxy
from testkit.support.rights import rules
from tests.chaos.ground import Ground
from tests.control_plane.operator.world import LEASES, World, world_without_operator
from tests.control_plane.operator_process import LEASE, OperatorProcess

RELIST_SECONDS = 3.0
"""Between two re-lists of an operator here; a minute by default."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """What a fault test acts on."""

    world: World
    proxies: list[ApiProxy] = field(default_factory=list[ApiProxy])
    _stack: AsyncExitStack

    @property
    def operator(self) -> OperatorProcess:
        """The first operator."""
        return self.world.operators[0]

    @property
    def proxy(self) -> ApiProxy:
        """That of the first operator."""
        return self.proxies[0]

    async def add_operator(self, identity: str, **settings: str) -> OperatorProcess:
        """One more operator, not started yet, with a proxy of its own."""
        world, control_plane = self.world, self.world.control_plane
        operator = world.another_operator(identity, **settings)
        kubeconfig = control_plane.user(operator.user, rules(), world.namespace)
        proxy = ApiProxy(kubeconfig, Authority.load(control_plane.layout, "ca"))
        self.proxies.append(await self._stack.enter_async_context(proxy))
        self._stack.push_async_callback(operator.close)
        operator.settings["KUBECONFIG"] = str(proxy.kubeconfig)
        return operator

    async def succeed(self) -> None:
        """Start the operator again after it was killed.

        A dead operator's Lease would run out after 15 seconds, which is tested elsewhere.
        """
        await self.world.delete(LEASES, LEASE)
        await self.operator.launch()


@asynccontextmanager
async def new_scene(control_plane: ControlPlane, namespace: str, ground: Ground) -> AsyncGenerator[Scene]:
    """A scene with a Secret and an operator that was not started yet."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(world_without_operator(control_plane, namespace, ground))
        scene = Scene(world=world, _stack=stack)
        await scene.add_operator("operator-0", RELIST_SECONDS=str(RELIST_SECONDS))
        yield scene
