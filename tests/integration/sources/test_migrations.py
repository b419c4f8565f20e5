"""A source whose database is migrated to a later core beneath it: no attempt is charged, no run fails."""

from collections.abc import AsyncIterator

import orjson
import pytest
from tests.conftest import TESTED_CORES, Database, upgrade
from tests.integration.sources.flows import fan
from tests.integration.sources.world import World, a_world, completed, drive, finish_one

OUTPUTS = {"spread": [1, 2], "each": 3, "join": "done"}
ATTEMPTS = "SELECT max(attempts_count) FROM pgflow.step_tasks WHERE run_id = $1"


@pytest.fixture
async def world(installed_database: Database) -> AsyncIterator[World]:
    async with a_world(installed_database) as made:
        yield made


@pytest.mark.parametrize("core", TESTED_CORES)
async def test_a_source_claims_on_after_a_migration(world: World, core: str) -> None:
    await world.create(fan)
    source = await world.source(fan)
    for migrated in (False, True):
        if migrated:
            await upgrade(world.database, core)
        run_id = await world.start("fan", {"q": 1})
        seen = await drive(source, lambda task: completed(OUTPUTS[task.step_slug]))
        assert [orjson.loads(task.input) for task in seen] == [{}, 1, 2, {"each": [3, 3], "spread": [1, 2]}]
        assert orjson.loads(seen[0].flow_input or b"0") == {"q": 1}
        assert await world.run(run_id) == ("completed", {"join": "done"})
        assert await world.owner.fetchval(ATTEMPTS, run_id) == 1


async def test_a_claim_goes_on_where_the_core_is_migrated_between_two_of_a_run(world: World) -> None:
    await world.create(fan)
    source = await world.source(fan)
    run_id = await world.start("fan", {"q": 1})
    (root,) = (await source.claim(10, ())).tasks
    await upgrade(world.database, TESTED_CORES[-1])
    assert orjson.loads(root.flow_input or b"0") == {"q": 1}
    await finish_one(source, root, completed(OUTPUTS["spread"]))
    seen = await drive(source, lambda task: completed(OUTPUTS[task.step_slug]))
    assert [task.attempt for task in seen] == [1, 1, 1]
    assert await world.run(run_id) == ("completed", {"join": "done"})
