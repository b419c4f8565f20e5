"""Options that the database has otherwise than the code are shown, and change nothing else."""

import asyncio
import os
import sys
from pathlib import Path

from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import World

COMMAND = Path(sys.executable).with_name("flowworker")


async def test_options_that_differ_are_a_condition_until_the_owner_writes_them(world: World) -> None:
    await world.ground.owner.execute("UPDATE pgflow.flows SET opt_base_delay = 7 WHERE flow_slug = 'single'")
    await world.apply("report")
    shown = await world.until_condition("report", "OptionsInEffect", "False", "OptionsDiffer")
    assert "base_delay of the flow is 1 in the code, 7 in the database" in shown["message"]
    assert "flows compile --update-options" in shown["message"]
    await world.until_idle("report")
    assert (await world.condition("report", "OptionsInEffect"))["status"] == "False", "also while no worker runs"
    assert await world.condition("report", "Stalled") == {}
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.until_idle("report")
    await update_options(world)
    await world.until_condition("report", "OptionsInEffect", "True", "OptionsMatch")


async def update_options(world: World) -> None:
    """What the condition asks for, as the owner."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "flows", "compile", "tests.chaos.workloads:single", "--update-options",
        env={**os.environ, "FLOWWORKER_DATABASE_URL": world.ground.database.dsn},
    )  # fmt: skip
    assert await process.wait() == 0
