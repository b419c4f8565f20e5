from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.acceptance.support import Stage, clear, make_stage
from tests.conftest import Database
from tests.integration.cli.calling import Cli

PROGRAM = """
import asyncio
from typing import Any

from flowworker import Flow, Queue

greeting = Flow("greeting", max_attempts=1, timeout=30)


@greeting.step
async def hello(name: str) -> str:
    return f"hello, {name}"


naps = Queue("naps", max_attempts=2, timeout=600)


@naps.job
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


not_a_flow = 42
"""


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    """A database with everything installed, and a role that owns it."""
    made = await make_stage(database)
    yield made
    await clear(made)


@pytest.fixture
def cli(database: Database, tmp_path: Path) -> Cli:
    """The command line in a folder with a user's module `program`, with a worker's rights."""
    (tmp_path / "program.py").write_text(PROGRAM)
    quick = {"FLOWWORKER_MIN_POLL_INTERVAL": "0.05", "FLOWWORKER_LOG_FORMAT": "json"}
    return Cli(folder=tmp_path, dsn=database.worker_dsn, environment=quick)
