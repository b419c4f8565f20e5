"""The generated reference of the operator says what the code says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import operator_reference

from flowworker_operator.api.conditions import ConditionType, Reason
from flowworker_operator.api.crd import custom_resource_definition
from flowworker_operator.api.spec import FlowWorkerSpec


@pytest.mark.parametrize("name", operator_reference.FILES)
def test_the_reference_is_up_to_date(name: str) -> None:
    assert name not in operator_reference.outdated(), "run `make generate`"


def test_a_file_that_differs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(operator_reference.REFERENCE, tmp_path / "reference")
    monkeypatch.setattr(operator_reference, "REFERENCE", tmp_path / "reference")
    with (tmp_path / "reference" / "conditions.md").open("a") as file:
        file.write("by hand\n")
    (tmp_path / "reference" / "flowworker.md").unlink()
    assert operator_reference.outdated() == ["flowworker.md", "conditions.md"]


def test_the_command_of_make_verify_succeeds_when_all_is_well() -> None:
    command = [sys.executable, "-m", "tools.operator_reference", "--check"]
    assert subprocess.run(command, cwd=operator_reference.ROOT, check=False).returncode == 0


def test_every_condition_and_every_reason_is_listed() -> None:
    text = operator_reference.conditions()
    assert operator_reference.ASPECTS.keys() == set(ConditionType)
    assert [reason for reason in Reason if f"| `{reason}` |" not in text] == []


def test_every_field_of_the_spec_is_listed_with_its_default() -> None:
    text = operator_reference.flowworker()
    assert "| `scaling.maxReplicas` | integer | 1 to 1000 | Most workers. Default: 10. |" in text
    assert "| `template.spec.containers[].name` |" in text
    names = [field.alias or name for name, field in FlowWorkerSpec.model_fields.items()]
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_no_row_of_a_table_is_broken() -> None:
    for render in operator_reference.FILES.values():
        tables = re.split(r"\n\n", render())
        for table in (one for one in tables if one.startswith("| ")):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}) == 1


def test_the_page_about_kubernetes_shows_the_columns_there_are() -> None:
    page = (operator_reference.ROOT / "docs" / "kubernetes.md").read_text()
    columns = custom_resource_definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    head = ["NAME", *(column["name"].upper() for column in columns if "priority" not in column)]
    assert head in [line.split() for line in page.splitlines()]
