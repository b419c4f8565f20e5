import pytest
from syrupy.assertion import SnapshotAssertion
from typer.testing import CliRunner

from flowworker.cli.app import COMMANDS, build

WIDTH = {"COLUMNS": "100"}


def shown(*arguments: str) -> str:
    result = CliRunner(env=WIDTH).invoke(build(arguments), [*arguments, "--help"], prog_name="flowworker")
    assert result.exit_code == 0, result.output
    return result.output


def test_the_top(snapshot: SnapshotAssertion) -> None:
    assert shown() == snapshot


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"run"}))
def test_every_command_but_run_whose_options_are_the_settings(command: str, snapshot: SnapshotAssertion) -> None:
    assert shown(command) == snapshot


@pytest.mark.parametrize("command", ["runs start", "runs watch", "jobs send", "workers drain", "flows graph"])
def test_some_subcommands(command: str, snapshot: SnapshotAssertion) -> None:
    assert shown(*command.split()) == snapshot
