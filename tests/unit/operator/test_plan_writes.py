"""What is remembered of the writes for one FlowWorker, whatever is written for others."""

from typing import Any, cast

from tests.unit.operator.objects import asked, flowworker, live_pod

from flowworker_operator.apply import MARKS, PlanApplier, PlanResult, Target
from flowworker_operator.bounded import take_token
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Refused
from flowworker_operator.database import Databases
from flowworker_operator.database_writes import DatabaseWrites
from flowworker_operator.domain.plan import Mark, Plan, Scale
from flowworker_operator.store import Store


class Api:
    """An API server that refuses, or takes, all that is patched."""

    def __init__(self) -> None:
        self.refuses = False
        self.writes = 0

    async def patch(self, *_: object, **__: object) -> dict[str, Any]:
        self.writes += 1
        if self.refuses:
            raise Refused(422, "Invalid", "quantities must match")
        return live_pod(metadata={"resourceVersion": str(self.writes)})


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.api = Api()
        databases = Databases(clock=lambda: self.now, on_reading=lambda _: None)
        self.applier = PlanApplier(
            cluster=cast("Cluster", self.api),
            store=Store(),
            database_writes=DatabaseWrites(databases=databases, may_write=lambda: True, on_result=lambda _: None),
            may_write=lambda: True,
            clock=lambda: self.now,
        )

    async def carry_out(self, plan: Plan, name: str = "report", namespace: str = "shop") -> PlanResult:
        """For a FlowWorker of this name."""
        metadata = {"namespace": namespace, "name": name}
        target = Target(flowworker=flowworker(uid=f"{namespace}/{name}", metadata=metadata), design=asked())
        return await self.applier.carry_out(target, plan)


SCALE = Plan(scale=(Scale(name="report-1", resource_version="1", replicas=3, reason="so"),))


async def test_what_is_refused_to_many_others_makes_no_write_be_tried_at_once() -> None:
    world = World()
    world.api.refuses = True
    await world.carry_out(SCALE)
    for number in range(3000):
        await world.carry_out(SCALE, name=str(number), namespace="crowd")
    before = world.api.writes
    outcome = await world.carry_out(SCALE)
    assert world.api.writes == before
    assert outcome.refusal is not None


async def test_a_flowworker_that_is_made_anew_begins_without_what_was_refused() -> None:
    world = World()
    world.api.refuses = True
    await world.carry_out(SCALE)
    target = Target(flowworker=flowworker(uid="another"), design=asked())
    await world.applier.carry_out(target, SCALE)
    assert world.api.writes == 2


async def test_a_pod_whose_worker_says_now_this_and_now_that_is_marked_once_a_minute() -> None:
    world, marked, held_back = World(), 0, 0
    for _ in range(600):
        world.now += 1
        outcome = await world.carry_out(Plan(mark=(Mark(pod="a", uid="pod-a", cost="-1", reason="it has drained"),)))
        marked += len(outcome.done)
        held_back += "mark" in outcome.held_back
        if outcome.done:
            again = Plan(mark=(Mark(pod="a", uid="pod-a", cost=None, reason="it stays"),))
            assert (await world.carry_out(again)).done, "a mark is taken off at once"
    assert take_token(None, MARKS, 0) is not None
    assert MARKS.burst <= marked <= MARKS.burst + 10
    assert held_back == 600 - marked
