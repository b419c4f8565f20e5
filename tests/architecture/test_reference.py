"""The generated reference says what the code says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tools.reference import __main__ as reference
from tools.reference import operator_pages, worker_pages

from flowworker.telemetry.events import Event
from flowworker_operator.api.conditions import ConditionType, Reason
from flowworker_operator.api.crd import custom_resource_definition
from flowworker_operator.api.spec import FlowWorkerSpec


@pytest.mark.parametrize("name", reference.FILES)
def test_the_reference_is_up_to_date(name: str) -> None:
    assert name not in reference.outdated(), "run `make generate`"


def test_a_file_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(reference.REFERENCE, tmp_path / "reference")
    monkeypatch.setattr(reference, "REFERENCE", tmp_path / "reference")
    with (tmp_path / "reference" / "metrics.md").open("a") as file:
        file.write("by hand\n")
    (tmp_path / "reference" / "flowworker.md").unlink()
    assert reference.outdated() == ["metrics.md", "flowworker.md"]


def test_the_command_of_make_verify_succeeds_when_all_is_well() -> None:
    command = [sys.executable, "-m", "tools.reference", "--check"]
    assert subprocess.run(command, cwd=reference.ROOT, check=False).returncode == 0


def test_every_event_has_a_section_with_its_fields() -> None:
    text = worker_pages.event_list()
    for kind in get_args(Event):
        assert f"\n## {kind.__name__}\n" in text
    assert "Seconds until the next attempt; None when there is none." in text


def test_the_elixir_names_are_of_events_that_exist() -> None:
    assert worker_pages.ELIXIR_NAMES.keys() <= set(get_args(Event))


def test_every_condition_and_every_reason_is_listed() -> None:
    text = operator_pages.conditions()
    assert operator_pages.ASPECTS.keys() == set(ConditionType)
    assert [reason for reason in Reason if f"| `{reason}` |" not in text] == []


def test_every_field_of_the_spec_is_listed_with_its_default() -> None:
    text = operator_pages.flowworker()
    assert "| `scaling.maxReplicas` | integer | 1 to 1000 | Most workers. Default: 10. |" in text
    assert "| `template.spec.containers[].name` |" in text
    names = [field.alias or name for name, field in FlowWorkerSpec.model_fields.items()]
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_no_row_of_a_table_is_broken() -> None:
    for render in reference.FILES.values():
        tables = re.split(r"\n\n", render())
        for table in (one for one in tables if one.startswith("| ")):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}) == 1


def test_the_page_about_kubernetes_shows_the_columns_there_are() -> None:
    page = (reference.ROOT / "docs" / "kubernetes.md").read_text()
    columns = custom_resource_definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    head = ["NAME", *(column["name"].upper() for column in columns if "priority" not in column)]
    assert head in [line.split() for line in page.splitlines()]


def test_every_decision_is_in_the_index() -> None:
    folder = reference.ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    assert [page.name for page in folder.glob("[0-9]*.md") if f"({page.name})" not in index] == []
