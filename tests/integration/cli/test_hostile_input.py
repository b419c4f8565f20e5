"""Names, payloads and places that no one meant: one clear line each with the right exit code, never "this is a bug"."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.conftest import OWNER_ROLE, Database
from tests.integration.cli.calling import Answer, Cli

from flowworker.database.connection import Connection, connect
from flowworker.database.install import install

SURROGATES = os.fsdecode(b"\xff\xfe")
"""What Python makes of bytes on the command line that are no UTF-8."""

LONG = "a" * 64


def is_clear(answer: Answer, code: int) -> bool:
    """Whether a call ended with one line and the code that fits."""
    assert answer.out == ""
    assert answer.err.startswith("error: "), answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert "this is a bug" not in answer.err, answer.err
    assert answer.code == code, answer.err
    return True


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["jobs", "send", "a$b", "-p", "1"], 64),
        (["jobs", "send", SURROGATES, "-p", "1"], 64),
        (["jobs", "list", SURROGATES], 64),
        (["jobs", "show", SURROGATES, "1"], 64),
        (["jobs", "retry", SURROGATES, "1"], 64),
        (["jobs", "list", "İ"], 65),
        (["jobs", "send", "İ", "-p", "1"], 65),
        (["jobs", "send", LONG, "-p", "1"], 64),
        (["jobs", "show", "mail", str(10**30)], 65),
        (["jobs", "retry", "mail", str(10**30)], 65),
        (["jobs", "send", "mail", "-p", SURROGATES], 64),
        (["jobs", "send", "mail", "-p", f'"{SURROGATES}"'], 64),
        (["jobs", "send", "mail", "-p", "1", "-H", f"{SURROGATES}=x"], 65),
        (["jobs", "send", "mail", "-p", "[" * 3000 + "]" * 3000], 64),
        (["jobs", "send", "shop_flows:mail", "-p", "[" * 3000 + "]" * 3000], 64),
        (["jobs", "send", "mail", "-p", "@deep.json"], 64),
        (["jobs", "send", "mail", "-p", "@bytes.json"], 64),
        (["jobs", "send", "mail", "-p", "@digits.json"], 65),
        (["jobs", "send", "mail", "-p", "@/"], 64),
        (["runs", "start", "shop", "--input", "[" * 3000 + "]" * 3000], 64),
        (["runs", "start", SURROGATES, "--input", "1"], 65),
        (["runs", "list", "--flow", SURROGATES], 65),
        (["workers", "drain", SURROGATES], 65),
        (["workers", "drain", "a\nb"], 65),
        (["flows", "graph", SURROGATES], 65),
        (["db", "install", "--role", LONG], 64),
        (["db", "install", "--role", SURROGATES], 64),
        (["db", "install", "--client-role", SURROGATES], 64),
        (["run", SURROGATES], 66),
        (["run", "shop_flows:mail", "--probe-host", LONG, "--probe-port", "0"], 64),
        (["runs", "list", "--dsn", SURROGATES], 64),
        (["runs", "list", "--database-file", SURROGATES], 64),
        (["runs", "list", "--database-file", "/"], 64),
    ],
    ids=lambda value: ascii(value)[:60],
)
async def test_a_hostile_argument_is_one_clear_line(
    arguments: list[str], code: int, owner_cli: Cli, project: Path, shop: str, mail: str
) -> None:
    (project / "deep.json").write_text("[" * 100_000)
    (project / "bytes.json").write_bytes(b'"\xff"')
    (project / "digits.json").write_text("1e" + "9" * 30)
    cli = replace(owner_cli, environment={"FLOWWORKER_START_TIMEOUT": "1"})
    is_clear(await cli(*arguments), code)


@pytest.fixture(params=["C", "C.UTF-8"])
async def folding(request: pytest.FixtureRequest, database: Database, project: Path) -> AsyncIterator[Cli]:
    """A database whose locale folds letters outside of ASCII, or does not; the command line as its owner."""
    name = f"{database.name}_locale"
    admin = await connect(database.superuser_dsn, application_name="test")
    await admin.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 OWNER {OWNER_ROLE} ENCODING 'UTF8' LOCALE '{request.param}'"
    )
    made = replace(database, name=name)
    owner: Connection = await made.connect()
    await install(owner)
    await owner.execute("SELECT pgmq.create('ÜBER'); SELECT pgmq.create('İ')")
    await owner.close()
    yield Cli(folder=project, dsn=made.dsn)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.mark.parametrize("queue", ["ÜBER", "İ"])
async def test_a_queue_is_found_by_the_name_that_the_database_folds(folding: Cli, queue: str) -> None:
    sent = await folding("jobs", "send", queue, "--payload", "1")
    assert (sent.code, sent.err) == (0, "")
    listed = await folding("jobs", "list", queue, "-o", "json")
    assert [job["msg_id"] for job in listed.json] == [int(sent.out)], listed.err
    assert (await folding("jobs", "show", queue, sent.out.strip())).code == 0
    assert "only a failed or cancelled job" in (await folding("jobs", "retry", queue, sent.out.strip())).err
    assert "is cancelled" in (await folding("jobs", "cancel", queue, sent.out.strip())).out
    assert "was cancelled before" in (await folding("jobs", "cancel", queue, sent.out.strip())).out


async def test_an_answer_that_the_terminal_cannot_spell_is_written_all_the_same(owner_cli: Cli, mail: str) -> None:
    for payload in ('"kaputt 🎉"', '{"ü": "\\u202e"}'):
        sent = await owner_cli("jobs", "send", mail, "--payload", payload)
        cli = replace(owner_cli, environment={"PYTHONIOENCODING": "ascii"})
        shown = await cli("jobs", "show", mail, sent.out.strip())
        assert (shown.code, shown.err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
async def test_an_answer_that_cannot_be_written_is_one_clear_line(owner_cli: Cli, mail: str) -> None:
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb") as full:
        assert await ending(owner_cli, full) == (70, "error: the answer cannot be written: No space left on device\n")
    unread, out = os.pipe()
    os.close(unread)
    with os.fdopen(out, "wb") as pipe:
        assert await ending(owner_cli, pipe) == (141, "")


async def ending(cli: Cli, out: BinaryIO) -> tuple[int | None, str]:
    """Exit code and standard error of a command that answers to a file."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowworker.cli", "jobs", "list", "mail",
        env=cli.variables(), cwd=cli.folder, stdout=out, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, err.decode()
