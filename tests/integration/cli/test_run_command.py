import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from testkit.support.waiting import until
from tests.conftest import STRANGER_ROLE, Database
from tests.integration.cli.calling import Answer, Cli, content, until_line

from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import RunStatus
from flowworker.settings import Settings, option


@pytest.fixture
def reason(tmp_path: Path) -> Path:
    """The termination log, which Kubernetes creates before the container starts."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


@pytest.fixture
def worker_cli(database: Database, project: Path, reason: Path) -> Cli:
    settings = {"FLOWWORKER_TERMINATION_LOG": str(reason), "FLOWWORKER_MIN_POLL_INTERVAL": "0.05"}
    return Cli(folder=project, dsn=database.worker_dsn, environment=settings)


async def ended(process: asyncio.subprocess.Process) -> Answer:
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return Answer(code=process.returncode, out=out.decode(), err=err.decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_serves_flows_and_queues_until_a_stop_signal(
    worker_cli: Cli, database: Database, shop: str, mail: str, reason: Path, number: signal.Signals
) -> None:
    process = await worker_cli.start("run", "shop_flows:shop", "shop_flows:mail")
    async with Client(database.worker_dsn) as client:
        run = await client.start(shop, {"items": ["a", "b"]})
        job_id = await client.send(mail, {"to": "ann"})
        ended_run = await client.wait(run.run_id, timeout=30)
        assert (ended_run.status, ended_run.output) == (RunStatus.COMPLETED, {"pack": ["A", "B"]})

        async def is_done() -> bool:
            return (await client.job(mail, job_id)).state is JobState.DONE

        await until(is_done, "the job is done")
        assert (await client.job(mail, job_id)).result == "sent to ann"
        assert {worker.slug for worker in await client.workers()} == {"shop", "mail"}
        process.send_signal(number)
        answer = await ended(process)
        assert answer.code == 0
        assert await client.workers() == []
    assert "Traceback" not in answer.err
    assert content(reason) == "stop requested\n"


async def test_the_dsn_is_in_no_process_argument_and_in_no_log(worker_cli: Cli, database: Database, shop: str) -> None:
    with_password = database.worker_dsn.replace("@", ":hunter2@", 1)
    process = await replace(worker_cli, dsn=with_password).start("run", "shop_flows:shop")
    assert "hunter2" not in content(Path(f"/proc/{process.pid}/cmdline"))
    log = await until_line(process, "worker started")
    process.terminate()
    answer = await ended(process)
    assert (answer.code, "hunter2" in log + answer.err) == (0, False)


async def test_a_differing_flow_ends_with_65(worker_cli: Cli, owner: Connection, shop: str, reason: Path) -> None:
    await owner.execute("SELECT pgflow.add_step('shop', 'extra')")
    answer = await worker_cli("run", "shop_flows:shop")
    assert answer.code == 65
    assert "step 'extra' is only in the database" in answer.err
    assert "step 'extra' is only in the database" in content(reason)


async def test_a_missing_flow_that_must_not_be_created_ends_with_65(worker_cli: Cli) -> None:
    answer = await worker_cli("run", "shop_flows:shop", "--compile", "verify")
    assert answer.code == 65
    assert "flowworker flows compile" in answer.err


async def test_a_missing_flow_that_may_not_be_created_ends_with_77(worker_cli: Cli) -> None:
    assert (await worker_cli("run", "shop_flows:shop")).code == 77


async def test_a_handler_that_does_not_import_ends_with_66(worker_cli: Cli, reason: Path) -> None:
    answer = await worker_cli("run", "shop_flows:nobody")
    assert answer.code == 66
    assert "has no 'nobody'" in content(reason)


async def test_an_unreachable_database_ends_with_69(worker_cli: Cli, reason: Path) -> None:
    nowhere = "postgresql://nobody:hunter2@127.0.0.1:1/none"
    answer = await worker_cli("run", "shop_flows:shop", "--dsn", nowhere, "--start-timeout", "0.2")
    assert answer.code == 69
    assert "no connection to the database" in content(reason)
    assert "hunter2" not in answer.err + content(reason)


async def test_missing_rights_end_with_77(worker_cli: Cli, database: Database, shop: str) -> None:
    stranger = database.server.dsn(database.name, STRANGER_ROLE)
    assert (await worker_cli("run", "shop_flows:shop", "--dsn", stranger)).code == 77


async def test_a_vanished_database_is_no_database(worker_cli: Cli, empty_database: Database) -> None:
    answer = await worker_cli("run", "shop_flows:shop", "--dsn", empty_database.dsn)
    assert answer.code == 65
    assert "flowworker db install" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-concurrency", "0"], "--max-concurrency: '0' is not valid; it must be a whole number from 1 to 1000"),
        (["--signal-strategy", "telepathy"], "`polling` or `notify`"),
        (["--min-poll-interval", "9"], "must not be greater than"),
        (["--worker-id", "7"], "a UUID"),
        (["--worker-id", str(uuid4()), "shop_flows:mail"], "names one worker"),
        (["--nope"], "No such option"),
        (["shop_flows:shop"], "flow 'shop' is named twice"),
    ],
)
async def test_wrong_options_end_with_64(worker_cli: Cli, reason: Path, options: list[str], message: str) -> None:
    answer = await worker_cli("run", "shop_flows:shop", *options)
    assert answer.code == 64
    assert message in answer.err
    if "--nope" not in options:
        assert message in content(reason)


async def test_no_reason_is_left_where_no_file_waits_for_it(worker_cli: Cli, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert (await worker_cli("run", "missing:flow", "--termination-log", str(absent))).code == 66
    assert not absent.exists()


async def test_probes_serve_life_readiness_state_and_metrics(worker_cli: Cli, shop: str) -> None:
    process = await worker_cli.start("run", "shop_flows:shop", "--probe-port", "0", "--log-format", "json")
    line = await until_line(process, "probes and metrics on port")
    port = int(line.rpartition("port ")[2].partition('"')[0])
    await until_line(process, "worker started")
    answers = {path: await fetch(port, path) for path in ("/livez", "/readyz", "/state", "/metrics")}
    process.terminate()
    assert (await ended(process)).code == 0
    assert all(answer.startswith(("HTTP/1.0 200", "HTTP/1.1 200")) for answer in answers.values())
    assert '"slug":"shop"' in answers["/state"].replace(" ", "")
    assert "flowworker_" in answers["/metrics"]


async def fetch(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    try:
        return (await asyncio.wait_for(reader.read(), 10)).decode()
    finally:
        writer.close()


async def test_every_setting_is_an_option_of_run(worker_cli: Cli) -> None:
    shown = (await worker_cli("run", "--help")).out
    named = {"--dsn" if name == "database_url" else option(name) for name in Settings.model_fields}
    assert [name for name in named if name not in shown] == []


STUBBORN = """
import asyncio

from flowworker.definition.flow import Flow

stubborn = Flow("stubborn", max_attempts=1, timeout=1)


@stubborn.step
async def stay() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
"""


async def test_handlers_that_will_not_end_do_not_keep_the_process(
    worker_cli: Cli, database: Database, owner: Connection, project: Path, reason: Path
) -> None:
    (project / "stubborn_flows.py").write_text(STUBBORN)
    await owner.execute("SELECT pgflow.create_flow('stubborn', 1, 1, 1); SELECT pgflow.add_step('stubborn', 'stay')")
    process = await worker_cli.start("run", "stubborn_flows:stubborn", "--max-concurrency", "1")
    async with Client(database.worker_dsn) as client:
        run = await client.start("stubborn", {})
        assert (await client.wait(run.run_id, timeout=30)).status is RunStatus.FAILED
    answer = await ended(process)
    assert answer.code == 70
    assert "past" in content(reason)
    assert "Traceback" not in answer.err
