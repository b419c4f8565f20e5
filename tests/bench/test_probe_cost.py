"""What the operator's probe costs with a backlog of 300,000: as much as with one of 1,000.

Every test measures until its promise holds, at most three times: a neighbour that takes the processor away for some
seconds is no fault of ours, and a probe that is too slow stays too slow.
"""

import time
from typing import Literal

import pytest
from tests.conftest import Database
from tests.integration.operator.backlog import fill_flow, fill_queue
from tests.integration.operator.observer import Asker, asking, subject

from flowworker.database.connection import Connection

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("bench"), pytest.mark.timeout(400)]

ATTEMPTS = 3
ROUNDS = 50
FEW, MANY = 1_000, 300_000
CAP = 201
"""Ten workers with ten slots, by default."""
MOST = 0.005
"""Seconds; the aim is 0.001."""


async def cost(asker: Asker) -> float:
    """Seconds of the best of many databases, its way to the server and back included: neighbours only add to it."""
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await asker.samples()
        took.append(time.perf_counter() - began)
    return min(took)


@pytest.mark.parametrize("kind", ["flow", "queue"])
async def test_a_probe_costs_the_same_with_300_times_the_backlog(
    database: Database, owner: Connection, kind: Literal["flow", "queue"]
) -> None:
    fill = fill_flow if kind == "flow" else fill_queue
    await fill(owner, "few", FEW)
    await fill(owner, "many", MANY)
    await owner.execute("VACUUM ANALYZE")
    few, many = (subject(slug, kind, cap=CAP) for slug in ("few", "many"))
    async with asking(database, few) as asker_of_few, asking(database, many) as asker_of_many:
        (sample,) = await asker_of_many.samples()
        assert (sample.startable, sample.depth) == (CAP, CAP)
        for attempt in range(1, ATTEMPTS + 1):
            small, big = await cost(asker_of_few), await cost(asker_of_many)
            print(f"probe of a {kind}: {small * 1e3:.2f} ms at {FEW}, {big * 1e3:.2f} ms at {MANY}")
            if big <= MOST and big <= 2 * small:
                return
            assert attempt < ATTEMPTS, f"{big * 1e3:.2f} ms, {big / small:.1f} times as much as with {FEW}"
