"""A change made many times: once in peace, and then with the operator killed at one of its writes.

However it is disturbed, it must end as it ends in peace, after the same creations and deletions.
"""

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from testkit.support.api_calls import Call
from testkit.support.api_faults import after, before
from testkit.support.api_proxy import Interception
from testkit.support.waiting import until
from tests.control_plane.faults.changes import NAME, Change, image_of
from tests.control_plane.faults.scene import Scene
from tests.control_plane.operator.world import BUDGETS, LEASED, PODS, World

from flowworker_operator.domain.naming import DELETION_COST_ANNOTATION

ALL_VARIABLE = "FLOWWORKER_TEST_CRASH_POINTS"
"""`all`: every write of every change; a number: so many of each change. Unset: SAMPLE."""
SAMPLE = 3

PATIENCE = 60.0
QUIET = 0.7
"""Seconds without a write, after which the next change is made."""
LAST_CHANCE = 2.0
"""Seconds that a write may come after everything looks done."""

Object = dict[str, Any]
_NOTHING: Object = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A write at which the operator is killed."""

    label: str
    occurrence: int
    """From 1, among the writes of this label."""
    late: bool
    """After the server has done it, instead of before it hears of it."""

    def __str__(self) -> str:
        """As the report of a failed test names it."""
        return f"killed {'after' if self.late else 'before'} {self.label} #{self.occurrence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How it came out."""

    picture: Object
    done: Counter[str]
    """Creations and deletions that the server did."""
    tried: Counter[str]
    """Creations and deletions that were asked for, without those refused as decided on something old."""
    labels: Sequence[str] = field(default=())
    """Of all writes, in their order."""


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """Runs of one change in one scene."""

    scene: Scene
    change: Change

    async def in_peace(self) -> Ending:
        """The run that all others are compared with."""
        begun = await self._prepared()
        await self.change.make(self.scene.world)
        await until(lambda: self.change.is_complete(self.scene.world), "the change is complete", patience=PATIENCE)
        await self._quiet()
        return await self._ending(begun)

    async def disturbed(self, point: Point, peace: Ending) -> Ending | None:
        """A run with a kill, which is over once it looks as in peace; None if there was no such write."""
        begun = await self._prepared()
        kill = (after if point.late else before)(self.scene.operator.close)
        trap = self.scene.proxy.intercept(_Matcher(point).matches, kill, times=1)
        await self.change.make(self.scene.world)
        await self._sprung_or_over(trap, point, peace)
        self.scene.proxy.withdraw()
        if not trap.happened.is_set():
            return None
        await self.scene.succeed()
        await self._ends_as(peace, point)
        await self._quiet()
        return await self._ending(begun)

    async def _prepared(self) -> int:
        """Have everything in place; answers how many writes there were before."""
        await self.change.prepare(self.scene.world)
        await self._quiet()
        return len(self.scene.proxy.writes)

    async def _sprung_or_over(self, trap: Interception, point: Point, peace: Ending) -> None:
        async def sprung_or_over() -> bool:
            return trap.happened.is_set() or await self._over(peace)

        await until(sprung_or_over, f"{point}", patience=PATIENCE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(trap.happened.wait(), LAST_CHANCE)

    async def _ends_as(self, peace: Ending, point: Point) -> None:
        world = self.scene.world
        try:
            await until(lambda: self._over(peace), f"{point}: it ends as in peace", patience=PATIENCE)
        except AssertionError as error:
            found, wanted = (json.dumps(one, indent=1) for one in (await picture(world), peace.picture))
            raise AssertionError(f"{error}\n{found}\ninstead of\n{wanted}\n{await world.report()}") from None

    async def _over(self, peace: Ending) -> bool:
        world = self.scene.world
        return await self.change.is_complete(world) and await picture(world) == peace.picture

    async def _quiet(self) -> None:
        def quiet() -> bool:
            writes = self.scene.proxy.writes
            return not writes or time.monotonic() - writes[-1].at > QUIET

        await until(quiet, "nothing more is written", patience=PATIENCE)

    async def _ending(self, begun: int) -> Ending:
        calls = self.scene.proxy.writes[begun:]
        return Ending(
            picture=await picture(self.scene.world),
            done=Counter(_kind(call) for call in calls if call.done and _kind(call)),
            tried=Counter(_kind(call) for call in calls if _kind(call) and not _conflicts(call)),
            labels=[call.label for call in calls],
        )


class _Matcher:
    """Counts the writes of a label from its making."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._seen = 0

    def matches(self, call: Call) -> bool:
        if call.label != self._point.label:
            return False
        self._seen += 1
        return self._seen == self._point.occurrence


async def picture(world: World) -> Object:
    """What is there, without what differs from run to run: uids, times, versions, and the name of the revision."""
    flowworker = await world.flowworker(NAME)
    pods = await world.list(f"{PODS}?labelSelector=flowworker.dev/name={NAME}")
    deployments = await world.deployments(NAME)
    found: Object = {
        "deployments": [_stripped(one) for one in deployments],
        "budgets": [_stripped(one) for one in await world.list(BUDGETS)],
        "pods": [_marks(pod) for pod in pods],
        "drains": len(await world.ground.owner.fetch(LEASED)),
        "status": _headline(flowworker),
    }
    return json.loads(_masked(json.dumps(found), flowworker, deployments))


def points(labels: Sequence[str]) -> list[Point]:
    """Every write of a run, both before and after the server has done it."""
    seen: Counter[str] = Counter()
    found: list[Point] = []
    for label in labels:
        seen[label] += 1
        found += (Point(label=label, occurrence=seen[label], late=late) for late in (False, True))
    return found


def sample(found: Sequence[Point]) -> list[Point]:
    """As many as the environment asks for; a label comes again only after all others, and events come last.

    Chance is seeded by pytest-randomly, which prints its seed.
    """
    wanted = os.environ.get(ALL_VARIABLE, str(SAMPLE))
    rank: Counter[str] = Counter()
    order: list[tuple[int, bool, Point]] = []
    for point in random.sample(found, len(found)):
        rank[point.label] += 1
        order.append((rank[point.label], point.label.endswith("events"), point))
    chosen = [point for *_, point in sorted(order, key=lambda item: item[:2])]
    return chosen if wanted == "all" else chosen[: int(wanted)]


def _conflicts(call: Call) -> bool:
    return call.answer is not None and call.answer.status == HTTPStatus.CONFLICT


def _kind(call: Call) -> str:
    """Of a creation or deletion; events aside, which may be lost."""
    if call.resource == "events":
        return ""
    created = call.verb == "create" or (call.answer is not None and call.answer.status == 201)
    return f"create {call.resource}" if created else call.label if call.verb == "delete" else ""


def _stripped(item: Object) -> Object:
    metadata = item["metadata"]
    kept = {name: metadata.get(name) for name in ("name", "labels", "ownerReferences")}
    annotations: Object = metadata.get("annotations", _NOTHING)
    ours = {name: value for name, value in annotations.items() if name.startswith("flowworker.dev/")}
    return {"metadata": {**kept, "annotations": ours}, "spec": item["spec"]}


def _marks(pod: Object) -> Object:
    metadata = pod["metadata"]
    cost = metadata.get("annotations", _NOTHING).get(DELETION_COST_ANNOTATION)
    return {"cost": cost, "leaving": "deletionTimestamp" in metadata}


def _headline(flowworker: Object) -> Object:
    """What a status says at once; mere numbers follow some seconds later."""
    status, generation = flowworker.get("status", _NOTHING), flowworker["metadata"]["generation"]
    scaling = status.get("scaling", _NOTHING)
    return {
        "current": status.get("observedGeneration") == generation,
        "revision": status.get("revision"),
        "scaling": {name: scaling.get(name) for name in ("desired", "mode")},
        "conditions": [
            {name: one[name] for name in ("type", "status", "reason")}
            | {"current": one["observedGeneration"] == generation}
            for one in status.get("conditions", ())
        ],
    }


def _masked(text: str, flowworker: Object, deployments: Sequence[Object]) -> str:
    revision = flowworker.get("status", _NOTHING).get("revision", _NOTHING).get("current", "")
    masks = {flowworker["metadata"]["uid"]: "UID", revision: "REVISION"}
    masks |= {image_of(deployment): "IMAGE" for deployment in deployments}
    for value, mask in masks.items():
        text = text.replace(value, mask) if value else text
    return text
