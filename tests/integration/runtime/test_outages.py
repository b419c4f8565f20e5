"""The database goes away and comes back."""

import asyncio

from testkit.support.waiting import until
from tests.conftest import create_database, install_everything
from tests.integration.runtime.conftest import World

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.telemetry.events import DatabaseDown, DatabaseUp


async def test_results_survive_a_restart_of_the_database(own_server: LocalServer) -> None:
    database = await create_database(own_server, "outage")
    await install_everything(database)
    begun, release = asyncio.Event(), asyncio.Event()
    flow = Flow("outage", max_attempts=1, timeout=60)

    @flow.step
    async def wait(_: int) -> str:
        begun.set()
        await release.wait()
        return "kept"

    queue = Queue("outage_jobs", max_attempts=1, timeout=60)

    @queue.job
    async def work(_: int) -> str:
        await release.wait()
        return "kept"

    world = World(database, await database.connect())
    await world.create(flow, queue)
    async with world.worker(flow) as worker, world.worker(queue) as second:
        run = await world.start_run(flow, 1)
        job = await world.send(queue, 1)
        await begun.wait()
        await until(lambda: second.state().active_tasks, "the job runs")
        await world.owner.close()
        own_server.stop()
        release.set()
        await until(lambda: worker.state().unwritten_results and second.state().unwritten_results, "both results wait")
        await until(lambda: world.heard.of(DatabaseDown), "the outage is an event")
        own_server.start()
        world.owner = await connect(database.dsn, application_name="test")
        assert await world.ended(run) == ("completed", {"wait": "kept"})
        assert (await world.done(queue, job))["result"] == "kept"
        await until(lambda: world.heard.of(DatabaseUp), "its end is an event")
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "completed"
    await world.owner.close()
