"""Every command that takes a connection string, given wrong ones: no fragment of the password is printed anywhere."""

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
from testkit.support.dsn_shapes import Shape, shape
from tests.integration.cli.calling import Cli

from flowworker.cli import main

RUN = "33506233-c423-46fe-93b5-33a4504ed357"
COMMANDS = (
    ["db", "status"], ["db", "install"], ["db", "install", "--role", "app"], ["doctor"], ["db", "doctor"],
    ["runs", "start", "shop"], ["runs", "list"], ["runs", "show", RUN], ["runs", "watch", RUN], ["runs", "retry", RUN],
    ["jobs", "send", "mail"], ["jobs", "list", "mail"], ["jobs", "show", "mail", "1"], ["jobs", "retry", "mail", "1"],
    ["workers", "list"], ["workers", "drain", "w"], ["workers", "resume", "w"],
    ["flows", "list"], ["flows", "compile", "shop_flows:shop"], ["flows", "diff", "shop_flows:shop"],
    ["flows", "graph", "shop"],
)  # fmt: skip
SHAPES = 6
"""Of each way to give one, for each command."""


def wrong(count: int, seed: int) -> list[Shape]:
    """Strings that lead nowhere: a part of them parses, and then nothing listens."""
    chance = random.Random(seed)
    return [shape(chance) for _ in range(count)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_part_of_a_password(
    command: list[str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sys.path", [str(project), *sys.path])
    monkeypatch.setattr("sys.modules", {**sys.modules})
    for name in [name for name in os.environ if name.startswith(("FLOWWORKER_", "PG"))]:
        monkeypatch.delenv(name)
    file = project / "dsn"
    for number, made in enumerate(wrong(SHAPES * 5, seed=sum(map(ord, "".join(command))))):
        monkeypatch.delenv("FLOWWORKER_DATABASE_URL", raising=False)
        match number % 5:
            case 0:
                given = ["--dsn", made.dsn]
            case 1:
                given = [f"--dsn={made.dsn}"]
            case 2:
                file.write_text(made.dsn)
                given = ["--database-file", str(file)]
            case 3:  # in the wrong place
                given = [made.dsn] if number % 2 else ["--database-file", made.dsn]
            case _:
                monkeypatch.setenv("FLOWWORKER_DATABASE_URL", made.dsn)
                given = []
        assert main(["--debug", *command, *given]) not in {0, 70}, made
        said = capsys.readouterr()
        assert made.fragments_in(said.out + said.err) == [], made


async def test_no_worker_leaves_a_part_of_a_password(project: Path, tmp_path: Path) -> None:
    async def serve(number: int, made: Shape) -> None:
        reason = tmp_path / f"reason{number}"
        reason.touch()
        cli = Cli(folder=project, environment={"FLOWWORKER_TERMINATION_LOG": str(reason)})
        option = ("--dsn", "--direct-database-url")[number % 2]
        other = ("--direct-database-url", "--dsn")[number % 2]
        good = "postgresql://app@127.0.0.1:1/main"
        answer = await cli("--debug", "run", "shop_flows:shop", option, made.dsn, other, good, "--start-timeout", "0.1")
        assert answer.code in {64, 69, 77}, (made, answer)
        assert made.fragments_in(answer.out + answer.err + reason.read_text()) == [], made
        assert reason.read_text() != ""

    shapes = list(enumerate(wrong(24, seed=7)))
    for pair in zip(shapes[::2], shapes[1::2], strict=True):
        await asyncio.gather(*(serve(number, made) for number, made in pair))
