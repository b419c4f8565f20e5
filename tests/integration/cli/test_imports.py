"""What a start imports: most of what a start costs, and one line at the top of a module brings all of it back."""

import json
from pathlib import Path

import pytest
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.cli.calling import Cli

CALL = """
import sys
from flowworker.cli import main
code = main(sys.argv[1:])
print("\\n" + "\\n".join(sys.modules))
sys.exit(code)
"""

WITNESS = """
import gc, json, pathlib, sys
from flowworker import Flow, Queue

witness = Queue("witness")


@witness.job
async def look(name: str) -> None:
    imported = {"modules": sorted(sys.modules), "kept": gc.get_freeze_count(), "collects": gc.isenabled()}
    pathlib.Path(name).with_suffix(".part").write_text(json.dumps(imported))
    pathlib.Path(name).with_suffix(".part").rename(name)


seen = Flow("seen")


@seen.step
async def look_as_step(name: str) -> None:
    await look(name)
"""

ONLY_WORKERS = {"flowworker.bench", "flowworker.runtime", "flowworker.telemetry", "prometheus_client", "uvloop"}
DEFINITIONS = {"flowworker.definition.codec", "flowworker.definition.flow", "flowworker.settings"}
NEVER = {"pydantic_settings", "rich", "stamina", "structlog", "tenacity"}
"""Not even in a worker: what reads settings is our own, and the others are for a terminal, for waits or for users."""


async def imported_by(database: Database, folder: Path, *arguments: str) -> set[str]:
    cli = Cli(folder=folder, dsn=database.dsn)
    script = folder / "call.py"
    script.write_text(CALL)
    answer = await cli.python(str(script), *arguments)
    assert answer.code == 0, answer.err
    return set(answer.out.splitlines())


@pytest.mark.parametrize("command", [["--help"], ["--version"]], ids=str)
async def test_what_asks_no_database_imports_none_and_no_models(
    database: Database, tmp_path: Path, command: list[str]
) -> None:
    heavy = {"asyncpg", "asyncio", "pydantic", "ssl", "flowworker.redaction"}
    assert not await imported_by(database, tmp_path, *command) & (heavy | ONLY_WORKERS | DEFINITIONS | NEVER)


@pytest.mark.parametrize(
    "command", [["runs", "list"], ["flows", "list"], ["jobs", "list", "mail"], ["workers", "list"]], ids=str
)
async def test_what_only_reads_the_database_imports_no_worker_and_no_definitions(
    database: Database, mail: str, tmp_path: Path, command: list[str]
) -> None:
    unused = ONLY_WORKERS | NEVER | (set[str]() if command[0] == "flows" else DEFINITIONS)
    assert not await imported_by(database, tmp_path, *command) & unused
    assert mail == "mail"


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        ("queue", {"flowworker.runtime.sources.flow_source", "flowworker.runtime.sources.flow_writer"}),
        ("flow", {"flowworker.runtime.sources.queue_source", "flowworker.runtime.sources.queue_writer"}),
    ],
)
async def test_a_worker_imports_only_what_it_runs_with(
    database: Database, tmp_path: Path, kind: str, unused: set[str]
) -> None:
    (tmp_path / "watched.py").write_text(WITNESS)
    cli = Cli(folder=tmp_path, dsn=database.dsn, environment={"FLOWWORKER_MIN_POLL_INTERVAL": "0.05"})
    process = await cli.start("run", "watched:witness" if kind == "queue" else "watched:seen")
    found = tmp_path / "imported.json"
    start = ("jobs", "send", "witness", "--payload") if kind == "queue" else ("runs", "start", "seen", "--input")
    try:

        async def is_served() -> bool:
            return (await cli(*start, json.dumps(str(found)))).code == 0

        await until(is_served, "the worker has created what it serves")
        await until(lambda: found.exists(), "the handler has run")
    finally:
        process.terminate()
        await process.communicate()
    seen = json.loads(found.read_text())
    probes = {"flowworker.probes", "prometheus_client"}
    assert not set(seen["modules"]) & (unused | probes | NEVER | {"flowworker.client", "flowworker.bench"})
    assert seen["collects"]
    assert seen["kept"] > 10_000, "what the imports made is still looked through by every full collection"
