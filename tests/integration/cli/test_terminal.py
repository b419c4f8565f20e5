"""What a terminal gets to see: tables with colours, and a run that is drawn again as it moves."""

import asyncio
import os
import pty
import re
import sys

from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.cli.calling import Cli
from tests.integration.client.acting import LISTENING, fail

from flowworker.client import Client
from flowworker.database.connection import Connection

COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


async def on_terminal(cli: Cli, *arguments: str) -> tuple[int, str]:
    """Call with a terminal for standard output; give the exit code and all that was drawn."""
    ours, theirs = pty.openpty()
    environment = {**cli.variables(), "TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowworker.cli", *arguments, stdout=theirs, env=environment, cwd=cli.folder
    )
    os.close(theirs)
    drawn = await asyncio.to_thread(read_all, ours)
    return await process.wait(), drawn


def read_all(descriptor: int) -> str:
    chunks: list[bytes] = []
    try:
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    except OSError:
        pass  # The other end of a terminal was closed.
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode()


async def test_a_list_is_a_table_with_colours(cli: Cli, database: Database, worker: Connection, shop: str) -> None:
    async with Client(database.worker_dsn) as client:
        run = await client.start(shop, 1)
    await fail(worker, run, "items", "no stock")
    code, drawn = await on_terminal(cli, "runs", "list")
    assert code == 0
    assert "\x1b[31mfailed" in drawn
    assert str(run.run_id) in COLOURS.sub("", drawn)


async def test_a_watched_run_is_drawn_until_it_ends(
    cli: Cli, database: Database, worker: Connection, shop: str
) -> None:
    async with Client(database.worker_dsn) as client:
        run = await client.start(shop, 1)
        watching = asyncio.create_task(on_terminal(cli, "runs", "watch", str(run.run_id)))
        await until(lambda: worker.fetchval(LISTENING), "the command listens")
        await fail(worker, run, "items", "no stock")
        code, drawn = await watching
    plain = COLOURS.sub("", drawn)
    assert code == 1
    assert "STEP" in plain
    assert f"run {run.run_id} failed" in plain
    assert plain.count("no stock") >= 2
