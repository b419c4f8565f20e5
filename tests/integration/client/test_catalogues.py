"""The client on catalogues that look like later cores."""

from datetime import UTC, datetime

import pytest
from tests.conftest import Database
from tests.integration.client.acting import complete, fail

from flowworker.cli.runs_view import run_text
from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.records import RunStatus
from flowworker.database.runs import RunDetails, StepStatus

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


PACKING = """
    SELECT pgflow.create_flow('shop', max_attempts => 1); SELECT pgflow.add_step('shop', 'items');
    SELECT pgflow.add_step(
        'shop', 'pack', ARRAY['items'], step_type => 'map'{}
    );
"""


async def broken(database: Database, owner: Connection, more: str = "") -> RunDetails:
    """A run whose map of three has lost one for good."""
    await owner.execute(PACKING.format(more))
    async with Client(database.worker_dsn) as client:
        run = await client.start("shop", 0)
        await complete(owner, run, "items", [1, 2, 3])
        await fail(owner, run, "pack", "no box")
        return await client.run(run.run_id)


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_a_completed_run_shows_no_error_and_its_skipped_step_when_that_ended(catalogue: Database) -> None:
    owner = await catalogue.connect()
    found = await broken(catalogue, owner, ", when_exhausted => 'skip'")
    await owner.close()
    step = found.steps[1]
    assert (found.run.status, found.run.error) == (RunStatus.COMPLETED, None)
    assert (step.status, step.failed, step.skipped) == (StepStatus.SKIPPED, 1, 0 if catalogue.core == "0.14" else 2)
    assert step.ended_at == step.skipped_at is not None


@pytest.mark.parametrize("catalogue", ["0.8", "0.15", "0.17"], indirect=True)
async def test_the_cancelled_tasks_of_a_failed_run_are_counted(catalogue: Database) -> None:
    owner = await catalogue.connect()
    found = await broken(catalogue, owner)
    await owner.close()
    step = found.steps[1]
    assert (found.run.status, found.run.error) == (RunStatus.FAILED, "no box")
    assert (step.failed, step.cancelled + step.queued) == (1, 2)
    assert step.cancelled == (0 if catalogue.core == "0.8" else 2)


CONDITIONAL = """
    SELECT pgflow.create_flow('shop', max_attempts => 1); SELECT pgflow.add_step('shop', 'items');
    SELECT pgflow.add_step(
        'shop', 'pack', ARRAY['items'], required_input_pattern => '{{"items": ["box"]}}',
        forbidden_input_pattern => '{{"items": [""]}}', when_unmet => '{}'
    );
    SELECT pgflow.add_step('shop', 'mail', ARRAY['pack']);
    SELECT pgflow.add_step('shop', 'note', when_exhausted => 'skip');
"""
CONDITIONS = """when={"items": ["box"]} unless={"items":"""


async def unmet(catalogue: Database, when_unmet: str) -> str:
    """What is shown of a run with a step whose conditions were not met, and one that failed and was skipped."""
    owner = await catalogue.connect()
    await owner.execute(CONDITIONAL.format(when_unmet))
    async with Client(catalogue.worker_dsn) as client:
        run = await client.start("shop", 0)
        await fail(owner, run, "note", "no paper")
        await complete(owner, run, "items", ["a"])
        shown = run_text(await client.run(run.run_id), datetime.now(UTC))
    await owner.close()
    return shown


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_a_run_shows_why_each_of_its_steps_was_skipped(catalogue: Database) -> None:
    shown = await unmet(catalogue, "skip-cascade")
    assert "status:  completed" in shown
    assert f"condition_unmet: {CONDITIONS}" in shown
    assert "dependency_skipped" in shown
    assert "handler_failed: no paper" in shown


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_a_run_that_failed_because_of_a_condition_shows_which(catalogue: Database) -> None:
    shown = await unmet(catalogue, "fail")
    assert "error:   Condition not met" in shown
    assert f"Condition not met: {CONDITIONS}" in shown
