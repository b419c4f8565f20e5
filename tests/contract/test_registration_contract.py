"""Workers are registered as pgflow's own tools expect it, on every core, with a worker's rights."""

import re
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from tests.conftest import WORKER_ROLE, Database
from tests.integration.sources.world import World, a_world, report

from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.heartbeat import Look
from flowworker.database.records import SourceKind
from flowworker.runtime.heartbeat.database import DatabaseHeartbeat

PGFLOW_S_OWN = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
"""What the daily report of core 0.17.1 counts as a version of pgflow's worker."""


@pytest.fixture
async def world(catalogue: Database) -> AsyncIterator[World]:
    async with a_world(catalogue) as made:
        yield made


async def enlist(world: World, *slugs: str) -> Capabilities:
    """Let a worker of each flow register and beat, as a process does; returns what the database can do."""
    links = world.links()
    port = DatabaseHeartbeat(beat=links.beat, other=links.pulse, lends=False)
    boot = uuid4()
    mine = [report(uuid4(), kind=SourceKind.FLOW, slug=slug, boot_id=boot, version="1.2.3") for slug in slugs]
    jobs = report(uuid4(), kind=SourceKind.QUEUE, slug="jobs", boot_id=boot)
    for member in (*mine, jobs):
        await port.register([member])
    await port.beat([*mine, jobs], Look())
    return await detect(world.owner)


async def functions(world: World) -> list[tuple[str, str, bool]]:
    rows = await world.owner.fetch("SELECT function_name, start_mode, enabled FROM pgflow.worker_functions ORDER BY 1")
    return [(row[0], row[1], row[2]) for row in rows]


async def test_each_flow_is_one_function_that_starts_by_itself(world: World) -> None:
    await enlist(world, "a", "B")
    found = await enlist(world, "a", "B")
    workers = await world.owner.fetch("SELECT queue_name, function_name FROM pgflow.workers ORDER BY 1")
    assert [tuple(row) for row in workers] == [("B", "py:B")] * 2 + [("a", "py:a")] * 2
    if found.start_mode:
        assert await functions(world) == [("py:B", "process", True), ("py:a", "process", True)]


async def test_before_there_are_functions_that_start_by_themselves_none_is_registered(world: World) -> None:
    """Every function that those cores know is called over HTTP, again and again."""
    found = await enlist(world, "a")
    if found.stopped_at and not found.start_mode:
        assert await world.owner.fetchval("SELECT count(*) FROM pgflow.worker_functions") == 0


async def test_the_version_names_our_software(world: World) -> None:
    found = await enlist(world, "a")
    if found.pgflow_version:
        version = await world.owner.fetchval("SELECT pgflow_version FROM pgflow.workers")
        assert version == "flowworker-1.2.3"
        assert PGFLOW_S_OWN.fullmatch(version) is None


async def test_a_role_that_may_not_register_functions_registers_its_workers(world: World) -> None:
    if (await detect(world.owner)).start_mode:
        await world.owner.execute(f"REVOKE INSERT ON pgflow.worker_functions FROM {WORKER_ROLE}")
        await enlist(world, "a")
        assert await functions(world) == []
        assert await world.owner.fetchval("SELECT function_name FROM pgflow.workers") == "py:a"


async def test_what_people_set_on_a_function_stays(world: World) -> None:
    if (await enlist(world, "a")).start_mode:
        await world.owner.execute("UPDATE pgflow.worker_functions SET enabled = false")
        await enlist(world, "a")
        assert await functions(world) == [("py:a", "process", False)]


async def test_a_worker_registers_while_the_functions_are_locked(world: World) -> None:
    """As a migration does."""
    if (await detect(world.owner)).start_mode:
        async with world.owner.transaction():
            await world.owner.execute("LOCK TABLE pgflow.worker_functions IN SHARE MODE")
            await enlist(world, "a")
        assert await world.owner.fetchval("SELECT function_name FROM pgflow.workers") == "py:a"
        assert await functions(world) == []
