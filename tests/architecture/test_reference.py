"""The generated reference says what the code says."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tools import generate_reference

from flowworker.telemetry.events import Event


@pytest.mark.parametrize("name", generate_reference.FILES)
def test_the_reference_is_up_to_date(name: str) -> None:
    assert name not in generate_reference.outdated(), "run `make generate`"


def test_a_file_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(generate_reference.REFERENCE, tmp_path / "reference")
    monkeypatch.setattr(generate_reference, "REFERENCE", tmp_path / "reference")
    with (tmp_path / "reference" / "metrics.md").open("a") as file:
        file.write("by hand\n")
    (tmp_path / "reference" / "events.md").unlink()
    assert generate_reference.outdated() == ["metrics.md", "events.md"]


def test_the_command_of_make_verify_succeeds_when_all_is_well() -> None:
    script = str(Path(generate_reference.__file__))
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_every_event_has_a_section_with_its_fields() -> None:
    text = generate_reference.event_list()
    for kind in get_args(Event):
        assert f"\n## {kind.__name__}\n" in text
    assert "Seconds until the next attempt; None when there is none." in text


def test_the_elixir_names_are_of_events_that_exist() -> None:
    assert generate_reference.ELIXIR_NAMES.keys() <= set(get_args(Event))


def test_every_decision_is_in_the_index() -> None:
    folder = generate_reference.ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    assert [page.name for page in folder.glob("[0-9]*.md") if f"({page.name})" not in index] == []
