"""Every way a command line can go wrong: its exit code, and one clear line."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.conftest import STRANGER_ROLE, Database
from tests.integration.cli.calling import Cli

from flowworker.cli import main

PROBE = """
import sys
from flowworker.cli import main
main(["--help"])
print({"asyncpg", "pydantic", "rich", "watchfiles", "prometheus_client", "structlog"} & set(sys.modules))
"""

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def plain(project: Path) -> Cli:
    """No database at all."""
    return Cli(folder=project)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["runs"], "Missing command"),
        (["runs", "show"], "Missing argument 'RUN'"),
        (["runs", "show", "7"], "'7' is no run id"),
        (["runs", "list"], "FLOWWORKER_DATABASE_URL"),
        (["runs", "list", "--limit", "0"], "--limit"),
        (["runs", "list", "--output", "yaml"], "--output"),
        (["runs", "list", "--dsn", "postgresql://h/d", "--database-file", "f"], "exclude each other"),
        (["runs", "list", "--database-file", "missing"], "cannot read missing"),
        (["runs", "list", "--dsn", "mysql://h/d"], "connection string"),
        (["runs", "start", "shop", "--input", "{"], "--input is no JSON"),
        (["runs", "start", "shop", "--input", "@missing.json"], "cannot read missing.json"),
        (["runs", "start", "shop", "--run-id", "7"], "'7' is no run id"),
        (["jobs", "send", "mail", "--header", "x"], "NAME=VALUE"),
        (["jobs", "send", "mail", "--delay", "-1"], "--delay"),
    ],
    ids=str,
)
def test_usage_errors_end_with_64(
    arguments: list[str],
    message: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    for name in [name for name in os.environ if name.startswith("FLOWWORKER_")]:
        monkeypatch.delenv(name)
    assert main(arguments) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("password", ["a@geheim", "a/geheim", "1/geheim", "a%geheim", "a geheim", "1/x?geheim=y"])
def test_no_part_of_a_malformed_connection_string_is_shown(
    project: Path, password: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("sys.modules", {**sys.modules})
    (project / "dsn").write_text(f"postgresql://u:{password}@127.0.0.1:1/db\n")
    for command in (["run", "shop_flows:shop"], ["doctor"], ["db", "install"], ["runs", "list"]):
        assert main(["--debug", *command, "--database-file", "dsn"]) == 64
        said = capsys.readouterr()
        assert "FLOWWORKER_DATABASE_FILE: the connection string is malformed" in said.err
        assert "geheim" not in said.out + said.err


@pytest.mark.parametrize("parameter", ["channel_binding=require", "service=geheim", "keepalives_idle=geheim"])
async def test_a_parameter_that_cannot_be_obeyed_is_named_at_once(plain: Cli, parameter: str) -> None:
    answer = await plain("run", "shop_flows:shop", "--dsn", f"postgresql://u@127.0.0.1:1/db?{parameter}")
    assert (answer.code, answer.err.count("\n")) == (64, 1)
    assert parameter.split("=")[0] in answer.err
    assert "geheim" not in answer.err


async def test_a_parameter_that_the_server_refuses_is_no_outage(cli: Cli, database: Database) -> None:
    dsn = f"{database.worker_dsn}?pgbouncer=true"
    for command in (["run", "shop_flows:shop", "--start-timeout", "60"], ["doctor"]):
        answer = await cli(*command, "--dsn", dsn)
        assert answer.code == 64
        assert "pgbouncer" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "No such option"),
        (["runs", "start", "shop_flows:mail"], "one flow is wanted"),
        (["jobs", "send", "shop_flows:shop"], "one queue is wanted"),
        (["dev", "shop_flows:shop", "--watch", "missing"], "there is no missing"),
    ],
    ids=str,
)
async def test_the_process_ends_with_64_too(plain: Cli, arguments: list[str], message: str) -> None:
    answer = await plain(*arguments)
    assert (answer.code, answer.out) == (64, "")
    assert answer.err.startswith("error: ")
    assert message in answer.err


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing:flow", "no module 'missing'"),
        ("shop_flows:shopp", "did you mean 'shop'"),
        ("shop_flows:nothing", "neither a Flow nor a Queue"),
        ("broken:flow", "broken.py:1"),
    ],
)
async def test_what_does_not_import_ends_with_66(plain: Cli, reference: str, message: str) -> None:
    (plain.folder / "broken.py").write_text("1 / 0\n")
    answer = await plain("flows", "graph", reference)
    assert (answer.code, answer.out) == (66, "")
    assert message in answer.err


async def test_no_database_ends_with_69(plain: Cli) -> None:
    answer = await plain("runs", "list", "--dsn", NOWHERE)
    assert answer.code == 69
    assert answer.err.startswith("error: no connection to the database")
    assert answer.err.count("\n") == 1


async def test_what_the_database_lacks_ends_with_65(cli: Cli, empty_database: Database) -> None:
    for arguments, message in (
        (["runs", "start", "nowhere"], "no flow 'nowhere'"),
        (["runs", "show", "00000000-0000-0000-0000-000000000000"], "no run"),
        (["jobs", "list", "nowhere"], "no queue 'nowhere'"),
        (["flows", "graph", "nowhere"], "no flow 'nowhere'"),
        (["workers", "drain", "nobody"], "no living worker is called 'nobody'"),
        (["runs", "list", "--dsn", empty_database.dsn], "flowworker db install"),
    ):
        answer = await cli(*arguments)
        assert (answer.code, answer.out) == (65, "")
        assert message in answer.err


async def test_missing_rights_end_with_77(database: Database, project: Path) -> None:
    stranger = Cli(folder=project, dsn=database.server.dsn(database.name, STRANGER_ROLE))
    answer = await stranger("runs", "list")
    assert answer.code == 77
    assert "--role" in answer.err


async def test_a_wrong_user_ends_with_77(database: Database, project: Path) -> None:
    wrong = Cli(folder=project, dsn=database.server.dsn(database.name, "no_such_role"))
    assert (await wrong("runs", "list")).code == 77


async def test_the_dsn_may_stand_in_a_file(database: Database, plain: Cli) -> None:
    (plain.folder / "secret").write_text(database.worker_dsn + "\n")
    assert (await plain("runs", "list", "--database-file", "secret")).code == 0
    by_variable = Cli(folder=plain.folder, environment={"FLOWWORKER_DATABASE_FILE": "secret"})
    assert (await by_variable("runs", "list")).code == 0


@pytest.mark.parametrize("arguments", [["--debug", "runs", "list"], ["runs", "list", "--debug"]])
async def test_a_traceback_comes_only_with_debug(plain: Cli, arguments: list[str]) -> None:
    answer = await plain(*arguments, "--dsn", NOWHERE)
    assert answer.code == 69
    assert "Traceback" in answer.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["runs", "--help"], ["runs", "list", "-h"]])
async def test_help_and_version_end_with_0(plain: Cli, arguments: list[str]) -> None:
    answer = await plain(*arguments)
    assert (answer.code, answer.err) == (0, "")
    assert "flowworker" in answer.out


async def test_help_imports_nothing_heavy(plain: Cli) -> None:
    (plain.folder / "probe.py").write_text(PROBE)
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "probe.py", cwd=plain.folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asked.communicate()
    assert out.decode().splitlines()[-1] == "set()"
