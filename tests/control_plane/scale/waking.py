"""From a backlog that appears where no worker runs to the write that asks for one."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime

from testkit.support.waiting import hold_for
from tests.control_plane.operator.world import Object, World

from flowworker.database.identifiers import queue_table

NAME = "mail"
QUEUE = "jobs"
AT_ONCE = {"idleSecondsBeforeZero": 0, "scaleDownWindowSeconds": 0}
PHASE = 1.3
"""Seconds: longer than the time between two looks of an operator that waits for work, so that any phase is met."""
SEND = "SELECT pgmq.send($1, '{}')"


ANNOUNCE = "SELECT pgmq.enable_notify_insert($1)"


async def wake(world: World, times: int, chance: random.Random, *, announced: bool) -> Sequence[float]:
    """Let a backlog appear again and again; seconds from each insert to the answer to the operator's patch.

    Args:
        world: with an operator and nothing else.
        times: how often.
        chance: chooses the moments.
        announced: whether pgmq announces inserts, as it does for workers whose `wakeup` is `notify`.
    """
    if announced:
        await world.ground.owner.execute(ANNOUNCE, QUEUE)
    await world.apply(NAME, flow=None, queue=QUEUE, handler="mail.work:jobs", scaling=AT_ONCE)
    began = [await _once(world, chance) for _ in range(times)]
    await world.until_idle(NAME)
    patches = [one for one in await asyncio.to_thread(world.audited, world.operator.user) if _is_patch(one)]
    return [_first_after(moment, patches) for moment in began]


async def _once(world: World, chance: random.Random) -> datetime:
    await world.until_idle(NAME)
    await hold_for(PHASE * chance.random())
    began = datetime.now(UTC)
    await world.ground.owner.execute(SEND, QUEUE)
    await world.until_replicas(NAME, 1)
    await world.ground.owner.execute(f"DELETE FROM {queue_table(QUEUE)}")
    return began


def _is_patch(audited: Object) -> bool:
    return audited["verb"] == "patch" and audited["objectRef"]["resource"] == "deployments"


def _first_after(began: datetime, patches: Sequence[Object]) -> float:
    ends = (datetime.fromisoformat(one["stageTimestamp"]) for one in patches)
    return min((end - began).total_seconds() for end in ends if end > began)
