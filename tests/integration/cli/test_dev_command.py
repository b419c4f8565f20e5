import asyncio
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from testkit.support.waiting import until
from tests.integration.cli.calling import Cli, content, until_line
from tests.integration.cli.conftest import FLOWS

from flowworker.client import Client
from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker.errors import AuthenticationError
from flowworker.redaction import redact

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """A project that an unprivileged server may enter, which pytest's own folders do not allow when we are root."""
    with tempfile.TemporaryDirectory(prefix="flowworker-dev-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "shop_flows.py").write_text(FLOWS)
        yield path


async def test_dev_is_a_whole_environment(folder: Path) -> None:
    cli = Cli(folder=folder)
    dev = await cli.start("dev", "shop_flows:everything")
    try:
        dsn = await dsn_of(dev)
        await until_line(dev, "worker started")
        await no_other_user_is_let_in(dev, folder, dsn)
        await it_runs_what_is_started(dsn, "ONE")
        await a_second_one_is_refused(cli)
        await it_reloads_what_changes(dev, folder, dsn)
        await it_survives_broken_code(dev, folder, dsn)
    finally:
        dev.send_signal(signal.SIGINT)
        _, rest = await asyncio.wait_for(dev.communicate(), 60)
    assert dev.returncode == 0, rest.decode()
    assert b"stopped; the data stays in .flowworker" in rest
    assert not LocalServer(directory=folder / ".flowworker" / "postgresql").is_running()
    assert (folder / ".flowworker" / ".gitignore").read_text() == "*\n"


async def dsn_of(dev: asyncio.subprocess.Process) -> str:
    """The connection string, from the file that `dev` names; it is nowhere else."""
    shown = await until_line(dev, "database: ")
    path = Path((await until_line(dev, "elsewhere: ")).rpartition("FLOWWORKER_DATABASE_FILE=")[2].strip())
    dsn = content(path).strip()
    assert shown.strip() == f"database: {redact(dsn)}"
    assert shown.count("***") == 1
    return dsn


async def no_other_user_is_let_in(dev: asyncio.subprocess.Process, folder: Path, dsn: str) -> None:
    """Other users of the machine reach the port, and see arguments of processes; they are no superusers by that."""
    place = urlsplit(dsn)
    assert place.password is not None
    for user in ("postgres", "anybody"):
        without = place._replace(netloc=f"{user}@{place.hostname}:{place.port}").geturl()
        with pytest.raises(AuthenticationError):
            await connect(without, application_name="test")
    for name in ("dsn", "postgresql/password"):
        assert stat.S_IMODE((folder / ".flowworker" / name).stat().st_mode) == 0o600
    family = [psutil.Process(dev.pid), *psutil.Process(dev.pid).children(recursive=True)]
    assert not any(place.password in argument for process in family for argument in process.cmdline())


async def it_runs_what_is_started(dsn: str, expected: str) -> None:
    async with Client(dsn) as client:
        run = await client.start("shop", {"items": ["one"]})
        ended = await client.wait(run.run_id, timeout=30)
    assert ended.output == {"pack": [expected]}


async def a_second_one_is_refused(cli: Cli) -> None:
    second = await cli("dev", "shop_flows:shop")
    assert second.code == 64
    assert "another `flowworker dev`" in second.err


async def it_reloads_what_changes(dev: asyncio.subprocess.Process, folder: Path, dsn: str) -> None:
    rewrite(folder / "shop_flows.py", FLOWS.replace("item.upper()", "item * 2"))
    await until_line(dev, "changed: shop_flows.py")
    await until_line(dev, "worker started")
    await it_runs_what_is_started(dsn, "oneone")


async def it_survives_broken_code(dev: asyncio.subprocess.Process, folder: Path, dsn: str) -> None:
    rewrite(folder / "shop_flows.py", FLOWS + "\n1 / 0\n")
    await until_line(dev, "ended with code 66; waiting for a change")
    rewrite(folder / "shop_flows.py", FLOWS.replace("async def pack", "async def wrap"))
    assert "flowworker dev --reset" in await until_line(dev, "ended with code 65")
    rewrite(folder / "shop_flows.py", FLOWS)
    await until_line(dev, "worker started")
    await it_runs_what_is_started(dsn, "ONE")


def rewrite(path: Path, text: str) -> None:
    """Replace a file at once, as editors do."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    os.replace(draft, path)


SLOW = """
import asyncio

from flowworker import Flow

slow = Flow("slow", timeout=600)


@slow.step
async def wait() -> None:
    await asyncio.sleep(600)
"""


async def test_a_second_ctrl_c_does_not_wait_for_what_runs(folder: Path) -> None:
    (folder / "slow_flows.py").write_text(SLOW)
    dev = await Cli(folder=folder).start("dev", "slow_flows:slow")
    try:
        dsn = await dsn_of(dev)
        await until_line(dev, "worker started")
        async with Client(dsn) as client:
            run = await client.start("slow", {})

            async def is_running() -> bool:
                return any(task.status == "started" for task in (await client.run(run.run_id)).tasks)

            await until(is_running, "the task runs")
        dev.send_signal(signal.SIGINT)
        await until_line(dev, "Ctrl-C again does not wait")
        await until_line(dev, "worker draining")
    finally:
        dev.send_signal(signal.SIGINT)
        _, rest = await asyncio.wait_for(dev.communicate(), 60)
    assert dev.returncode == 0
    assert b"task given back" in rest
    assert b"killing it" not in rest


async def test_a_dev_that_was_killed_leaves_no_worker_behind(folder: Path) -> None:
    dev = await Cli(folder=folder).start("dev", "shop_flows:shop")
    try:
        await until_line(dev, "worker started")
        (worker,) = psutil.Process(dev.pid).children()
        dev.kill()

        async def is_gone() -> bool:
            return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE

        await until(is_gone, "the worker has gone")
    finally:
        if dev.returncode is None:
            dev.kill()
        await dev.wait()
        LocalServer(directory=folder / ".flowworker" / "postgresql").stop()
