"""Bad luck: a database that is away or unusable, a pooler, a clock that lies."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from testkit.support.waiting import until
from tests.acceptance.pooler import PROGRAM, transaction_pooler
from tests.acceptance.support import SLOW, Gate, Stage, clear, make_stage
from tests.conftest import WORKER_ROLE, Database, create_database, install_everything
from tests.integration.cli.calling import Cli

from flowworker import Flow, Queue, Worker
from flowworker.database.jobs_admin import JobState
from flowworker.database.local_server import LocalServer, free_port
from flowworker.database.records import FailureKind, RunStatus
from flowworker.errors import AuthenticationError, DatabaseUnavailableError, ExitCode, UsageError
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.telemetry.events import DatabaseDown, DatabaseUp, TaskFailed, TaskStarted, WorkerLost, WorkerStopped

PASSWORD = "open-sesame-7"
WRONG_PASSWORD = "hunter2-canary"


def echo_flow() -> Flow:
    flow = Flow("echo", max_attempts=1, timeout=60)

    @flow.step
    async def only(value: int) -> int:
        return value

    return flow


@contextlib.asynccontextmanager
async def stage_on(server: LocalServer) -> AsyncGenerator[Stage]:
    """A stage on a server that the test may stop."""
    database = await create_database(server, "luckless")
    await install_everything(database)
    stage = await make_stage(database)
    yield stage
    await clear(stage)


async def is_writable(stage: Stage, *, writable: bool) -> None:
    """Make every new session of the database read-only, as on a standby, or no longer; and end the present ones."""
    await stage.as_superuser(
        f"ALTER DATABASE {stage.database.name} SET default_transaction_read_only = {'off' if writable else 'on'}"
    )
    await stage.break_connections()


async def test_database_refused(own_server: LocalServer) -> None:
    flow = echo_flow()
    async with stage_on(own_server) as stage:
        await stage.create(flow)
        nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        hopeless = stage.worker(flow, dsn=nowhere, start_timeout=0.5)
        with pytest.raises(DatabaseUnavailableError, match="no connection to the database"):
            await hopeless.start()
        assert (await hopeless.wait()).code is ExitCode.UNAVAILABLE
        own_server.stop()
        patient = stage.worker(flow, start_timeout=40)
        starting = asyncio.create_task(patient.start())
        await until(lambda: patient.lifecycle is Lifecycle.STARTING, "a worker that waits")
        own_server.start()
        await starting
        after = await make_stage(stage.database)
        assert (await after.finish(flow, 3)).output == {"only": 3}
        await patient.stop()
        await clear(after)


async def test_database_restarted(own_server: LocalServer) -> None:
    gate, flow, queue = Gate(), Flow("lasting", max_attempts=1, timeout=60), Queue("lasting_jobs", timeout=60)
    begun: list[str] = []

    @flow.step
    async def hold(_: int) -> str:
        begun.append("task")
        await gate.pass_through()
        return "kept"

    @queue.job
    async def work(_: int) -> str:
        begun.append("job")
        await gate.pass_through()
        return "kept"

    async with stage_on(own_server) as stage:
        await stage.create(flow, queue)
        async with stage.pool([flow, queue]) as pool:
            run, job = await stage.start(flow, 1), await stage.send(queue, 1)
            await until(lambda: len(begun) == 2, "both at work")
            ids = [worker.worker_id for worker in pool.workers]
            own_server.restart("immediate")
            await stage.heard.first(DatabaseDown)
            gate.release.set()
            after = await make_stage(stage.database)
            assert (await after.ended(run, patience=40)).output == {"hold": "kept"}
            assert (await after.job_over(queue, job, patience=40)).result == "kept"
            assert (await after.finish(flow, 2, patience=40)).status is RunStatus.COMPLETED
            await stage.heard.first(DatabaseUp)
            assert [worker.worker_id for worker in pool.workers] == ids  # none was declared dead
            await clear(after)
    assert sorted(begun) == ["job", "task", "task"]
    assert stage.heard.of(TaskFailed) == []


async def test_database_read_only(stage: Stage) -> None:
    gate, flow = Gate(), Flow("frozen", max_attempts=1, timeout=60)

    @flow.step
    async def hold(value: int) -> int:
        await gate.pass_through()
        return value

    await stage.create(flow)
    async with stage.worker(flow) as worker:
        run = await stage.start(flow, 7)
        await gate.reached()
        await is_writable(stage, writable=False)
        gate.release.set()
        await until(lambda: worker.state().unwritten_results == 1, "a result that cannot be written")
        await until(
            lambda: any("read-only" in down.error for down in stage.heard.of(DatabaseDown)),
            "the outage is an event, with its reason",
        )
        assert worker.lifecycle is Lifecycle.RUNNING
        await is_writable(stage, writable=True)
        assert (await stage.ended(run, patience=40)).output == {"hold": 7}
        assert (await stage.finish(flow, 8, patience=40)).output == {"hold": 8}


async def test_database_out_of_connections(stage: Stage) -> None:
    flow, name = echo_flow(), stage.database.name
    await stage.create(flow)
    run = await stage.start(flow, 5)
    await stage.as_superuser(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    hopeless = stage.worker(flow, start_timeout=0.5)
    with pytest.raises(DatabaseUnavailableError, match="too many connections"):
        await hopeless.start()
    patient = stage.worker(flow, start_timeout=40)
    starting = asyncio.create_task(patient.start())
    await until(lambda: patient.lifecycle is Lifecycle.STARTING, "a worker that waits for a connection")
    await stage.as_superuser(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    await starting
    assert (await stage.ended(run)).output == {"only": 5}

    await stage.as_superuser(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    await stage.break_connections()
    down = await until(
        lambda: [one for one in stage.heard.of(DatabaseDown) if one.worker.worker_id == patient.worker_id],
        "the outage is an event",
    )
    assert down
    assert patient.lifecycle is Lifecycle.RUNNING
    await stage.as_superuser(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert (await stage.finish(flow, 6, patience=40)).output == {"only": 6}
    await patient.stop()


async def test_wrong_password(own_server: LocalServer, cli: Cli) -> None:
    flow = echo_flow()
    async with stage_on(own_server) as stage:
        await stage.create(flow)
        await stage.as_superuser(f"ALTER ROLE {WORKER_ROLE} PASSWORD '{PASSWORD}'")
        rules = own_server.data / "pg_hba.conf"
        rules.write_text(f"host all {WORKER_ROLE} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        await stage.as_superuser("SELECT pg_reload_conf()")
        right, wrong = (
            stage.database.worker_dsn.replace("@", f":{password}@", 1) for password in (PASSWORD, WRONG_PASSWORD)
        )
        await until(lambda: refuses(flow, wrong), "a server that asks for the password")
        answer = await cli("run", "program:greeting", "--dsn", wrong, "--start-timeout", "600")
        assert answer.code == 77  # at once: waiting does not mend a password
        assert "password authentication failed" in answer.err
        assert WRONG_PASSWORD not in answer.err + answer.out
        async with stage.worker(flow, dsn=right):
            after = await make_stage(stage.database)
            run_id = await after.owner.fetchval("SELECT run_id FROM pgflow.start_flow('echo', '1')")
            status = "SELECT status FROM pgflow.runs WHERE run_id = $1"

            async def completed() -> bool:
                return await after.owner.fetchval(status, run_id) == "completed"

            await until(completed, "the run of a worker that knows the password")
            await clear(after)


async def refuses(flow: Flow, dsn: str) -> bool:
    """Whether a worker with this connection string ends at once with the code for authentication."""
    worker = Worker(flow, dsn=dsn)
    try:
        await worker.start()
    except AuthenticationError:
        return (await worker.wait()).code is ExitCode.ACCESS
    await worker.stop()
    return False


@pytest.mark.skipif(PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer")
async def test_listen_through_a_pooler_that_cannot(stage: Stage, database: Database) -> None:
    flow = echo_flow()
    await stage.create(flow)
    await stage.announce("echo")
    async with transaction_pooler(database) as pooled:
        through = {"dsn": pooled, "statement_cache": False, "signal_strategy": "notify"}
        async with stage.worker(flow, **through) as worker:
            degraded = await until(lambda: worker.state().signal.degraded, "a worker that knows it hears nothing")
            assert not worker.state().signal.listening
            assert "pooler" in degraded
            assert "direct_dsn" in degraded
            for value in range(5):
                assert (await stage.finish(flow, value)).output == {"only": value}  # it polls instead
        direct = stage.worker(flow, direct_dsn=database.worker_dsn, **{**through, **SLOW})
        async with direct:
            await stage.listening(direct)
            assert direct.state().signal.degraded is None
            assert (await stage.finish(flow, 9)).output == {"only": 9}


@pytest.mark.skipif(PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer")
@pytest.mark.parametrize("reset", [True, False])
async def test_a_statement_cache_left_on_behind_a_pooler_is_named_at_the_start(
    stage: Stage, database: Database, reset: bool
) -> None:
    flow = echo_flow()
    await stage.create(flow)
    async with transaction_pooler(database, reset=reset) as pooled:
        worker = stage.worker(flow, dsn=pooled)
        with pytest.raises(UsageError, match="FLOWWORKER_STATEMENT_CACHE=false"):
            await worker.start()
        assert (await worker.wait()).code is ExitCode.USAGE


@pytest.mark.parametrize("days", [-1, 1])
async def test_clock_of_the_machine_off_by_a_day(stage: Stage, days: int) -> None:
    began: list[float] = []
    flow, queue = Flow("timeless", max_attempts=2, base_delay=1, timeout=2), Queue("timeless_jobs", timeout=60)

    @flow.step
    async def try_twice(_: int) -> str:
        began.append(time.monotonic())
        if len(began) == 1:
            await asyncio.Event().wait()  # times out
        return "done"

    @queue.job
    async def work(value: int) -> int:
        return value

    await stage.create(flow, queue)
    wrong = datetime.now(UTC) + timedelta(days=days)
    async with stage.pool([flow, queue], size=2) as right:
        ids = {worker.worker_id for worker in right.workers}
        with time_machine.travel(wrong, tick=True):  # it jumps while they work, and some start with it
            assert abs(time.time() - wrong.timestamp()) < 60
            async with stage.pool([flow, queue], name="strangers") as strangers:
                run = await stage.finish(flow, 1)
                assert run.output == {"try_twice": "done"}
                assert (await stage.do(queue, 4)).state is JobState.DONE
                ids |= {worker.worker_id for worker in strangers.workers}
                reports = await stage.client.workers()
                assert {report.worker_id for report in reports} == ids
                assert all(report.age < 30 for report in reports)
        assert (await stage.do(queue, 5)).result == 5
        assert {worker.worker_id for worker in right.workers} <= ids
    assert 2 + 1 <= began[1] - began[0] < 20  # its timeout and its backoff, not a day more or less
    (timeout,) = stage.heard.of(TaskFailed)
    assert timeout.failure.kind is FailureKind.TIMEOUT
    assert 2 <= timeout.duration < 20
    assert len(stage.heard.of(TaskStarted)) == 4
    assert stage.heard.of(WorkerLost) == []
    assert all(0 < stopped.duration < 600 for stopped in stage.heard.of(WorkerStopped))
