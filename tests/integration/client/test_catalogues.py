"""The client on catalogues that look like later cores."""

from tests.conftest import Database

from flowworker.client import Client
from flowworker.database.records import RunStatus

FLOW = """
    SELECT pgflow.create_flow('shop'); SELECT pgflow.add_step('shop', 'items'); SELECT pgmq.create('mail');
"""


async def test_runs_and_jobs_read_alike_on_every_core(catalogue: Database) -> None:
    owner = await catalogue.connect()
    await owner.execute(FLOW)
    await owner.close()
    async with Client(catalogue.worker_dsn) as client:
        run = await client.start("shop", {"a": 1})
        details = await client.run(run.run_id)
        assert (details.run.status, details.run.input) == (RunStatus.STARTED, {"a": 1})
        assert [(step.step_slug, step.skip_reason) for step in details.steps] == [("items", None)]
        assert [(task.step_slug, task.attempts) for task in details.tasks] == [("items", 0)]
        assert (await client.job("mail", await client.send("mail", 1, headers={"a": "b"}))).payload == 1
        assert len(await client.flows()) == len(await client.runs()) == 1
