"""Which events are written when there are more than the API server takes."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from tests.unit.operator.samples import NOW

from flowworker_operator.bounded import RateLimit
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.events import Bounds, EventRecorder
from flowworker_operator.cluster.resources import Object, Resource
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Claim

BOUNDS = Bounds(allowance=RateLimit(burst=1000, per_second=0), waiting=20, known=40)


@dataclass
class Api:
    """Takes events once it is open."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    taken: list[Object] = field(default_factory=list[Object])

    async def create(self, _: Resource, manifest: Object) -> Object:
        await self.open.wait()
        self.taken.append(manifest)
        return manifest

    async def patch(self, *_: object, **__: Any) -> Object:
        return {}


def claim(namespace: str, name: str) -> Claim:
    return Claim(namespace=namespace, name=name, uid=f"{namespace}/{name}", created_at=NOW, kind="flow", slug="a")


def event(message: str) -> Event:
    return Event(type="Normal", reason="ScaledUp", message=message)


async def test_events_of_many_in_one_namespace_displace_none_of_another_and_do_not_make_it_wait() -> None:
    api = Api()
    async with EventRecorder(cast("Cluster", api), instance="operator-0", bounds=BOUNDS) as events:
        for number in range(3):
            assert events.record(claim("quiet", "report"), event(f"quiet {number}"))
        for number in range(1000):
            events.record(claim("loud", f"report-{number}"), event("loud"))
        api.open.set()
    taken = [one["metadata"]["namespace"] for one in api.taken]
    assert taken.count("quiet") == 3
    assert taken[:7].count("quiet") == 3, "namespaces take turns"
    assert events.dropped == 1003 - len(taken)


async def test_many_in_one_namespace_give_no_other_a_new_allowance() -> None:
    api = Api()
    api.open.set()
    bounds = Bounds(allowance=RateLimit(burst=2, per_second=0), waiting=20, known=40)
    async with EventRecorder(cast("Cluster", api), instance="operator-0", bounds=bounds) as events:
        mine = claim("quiet", "report")
        assert [events.record(mine, event("a")) for _ in range(3)] == [True, True, False]
        for number in range(1000):
            events.record(claim("loud", f"report-{number}"), event("loud"))
        assert not events.record(mine, event("a"))
