"""Which licences may be shipped, and how older packages name them."""

from email.message import Message
from pathlib import Path

import pytest
from tools.sbom.__main__ import ROOT, SHIPPED, check_licences
from tools.sbom.licences import licence_of, refused


def metadata(**fields: str) -> Message:
    made = Message()
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    return made


@pytest.mark.parametrize(
    ("stated", "expression"),
    [
        (metadata(License_Expression="Apache-2.0 AND MIT", License="something else"), "Apache-2.0 AND MIT"),
        (metadata(License="mit"), "MIT"),
        (metadata(License="3-Clause BSD License"), "BSD-3-Clause"),
        (metadata(License="Copyright 2020, a whole text", Classifier="License :: OSI Approved :: MIT License"), "MIT"),
        (metadata(Classifier="License :: OSI Approved :: BSD License"), None),
        (metadata(Classifier="Topic :: MIT License"), None),
        (metadata(), None),
    ],
)
def test_the_expression_comes_before_the_field_and_the_field_before_a_classifier(
    stated: Message, expression: str | None
) -> None:
    assert licence_of(stated) == expression


@pytest.mark.parametrize(
    ("expression", "is_refused"),
    [
        ("MIT", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("GPL-3.0-only", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        (None, True),
    ],
)
def test_an_expression_is_refused_for_any_licence_that_is_not_on_the_list(
    expression: str | None, is_refused: bool
) -> None:
    assert refused(expression) is is_refused


def test_all_that_images_bring_from_pypi_may_be_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check_licences(ROOT / "requirements" / name for name in SHIPPED)
    assert "licences that may be shipped" in capsys.readouterr().out


def test_a_package_that_may_not_be_shipped_ends_the_check_by_name(tmp_path: Path) -> None:
    # pillow's licence, MIT-CMU, is fine for a tool, and has not been judged for what is shipped.
    lock = next(line for line in (ROOT / "requirements/dev.txt").read_text().splitlines() if line.startswith("pillow"))
    (tmp_path / "worker.txt").write_text(f"{lock}\n    --hash=sha256:0\n")
    with pytest.raises(SystemExit, match=r"pillow .*: MIT-CMU"):
        check_licences([tmp_path / "worker.txt"])


def test_a_lock_that_differs_from_what_is_installed_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "worker.txt").write_text("orjson==0.0.1 \\\n    --hash=sha256:0\n")
    with pytest.raises(SystemExit, match="make setup"):
        check_licences([tmp_path / "worker.txt"])
