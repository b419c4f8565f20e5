"""A database whose functions PUBLIC may not execute: granted by the installation, named where it is missing."""

import pytest
from tests.acceptance.support import Stage, clear, make_stage
from tests.conftest import OWNER_ROLE, WORKER_ROLE, Database, install_everything

from flowworker import Flow, Queue
from flowworker.database.connection import connect
from flowworker.database.grants import grant
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import RunStatus
from flowworker.errors import ExitCode, MissingRightsError

REVOKED = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pgmq, pgflow, realtime FROM PUBLIC"

flow = Flow("guarded", max_attempts=2, base_delay=0)


@flow.step
async def numbers(count: int) -> list[int]:
    if count < 0:
        raise ValueError("no such count")
    return list(range(count))


@flow.map(over=numbers)
async def double(number: int) -> int:
    return number * 2


queue = Queue("guarded_jobs", max_attempts=2, base_delay=0)


@queue.job
async def work(value: int) -> int:
    return 10 // value


async def works(stage: Stage) -> None:
    """Runs and jobs that succeed, fail and are retried."""
    await stage.create(flow, queue)
    async with stage.pool([flow, queue]):
        assert (await stage.finish(flow, 3)).output == {"double": [0, 2, 4]}
        assert (await stage.finish(flow, 0)).output == {"double": []}
        assert (await stage.finish(flow, -1)).status is RunStatus.FAILED
        assert (await stage.do(queue, 5)).result == 2
        assert (await stage.do(queue, 0)).state is JobState.FAILED


async def test_default_privileges_without_execute_for_public(empty_database: Database) -> None:
    admin = await connect(empty_database.superuser_dsn, application_name="test")
    await admin.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER_ROLE} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    await admin.close()
    await install_everything(empty_database)
    stage = await make_stage(empty_database)
    await works(stage)
    await clear(stage)


async def test_every_core_works_with_what_is_granted(catalogue: Database) -> None:
    stage = await make_stage(catalogue)
    await stage.owner.execute(REVOKED)
    await grant(stage.owner, WORKER_ROLE)
    await works(stage)
    await clear(stage)


@pytest.mark.parametrize("workload", [flow, queue], ids=["flow", "queue"])
async def test_a_worker_that_may_not_execute_functions_ends_with_the_statements(
    stage: Stage, workload: Flow | Queue
) -> None:
    await stage.create(flow, queue)
    await stage.owner.execute(REVOKED)
    worker = stage.worker(workload)
    with pytest.raises(MissingRightsError) as refused:
        await worker.start()
    assert (await worker.wait()).code is ExitCode.ACCESS
    assert f"flowworker db install --role {WORKER_ROLE}" in str(refused.value)
    assert f'GRANT EXECUTE ON FUNCTION pgmq.read(text, integer, integer, jsonb) TO "{WORKER_ROLE}"' in str(
        refused.value
    )
    statements = str(refused.value).partition("or: ")[2]
    await stage.owner.execute(statements)
    async with stage.worker(workload):
        if workload is flow:
            assert (await stage.finish(flow, 2)).output == {"double": [0, 2]}
        else:
            assert (await stage.do(queue, 5)).result == 2
