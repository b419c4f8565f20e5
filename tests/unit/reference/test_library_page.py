"""The page about the library has every public name, and reads docstrings as people write them here."""

from tools.reference.api_pages import library, prose

import flowworker
from flowworker import testing


def test_every_public_name_has_its_place() -> None:
    headings = [line for line in library().splitlines() if line.startswith("### ")]
    for name in (*flowworker.__all__, *testing.__all__):
        assert any(name in heading for heading in headings), name


def test_sections_become_lists_and_an_example_a_block() -> None:
    assert prose(
        """Do it.

        Args:
            value: what it is
                made of.
            **options: see there.

        Raises:
            ThisError, ThatError: it cannot.

        Example:
            >>> do(1)
        """
    ) == [
        "Do it.",
        "",
        "Args:",
        "",
        "- `value`: what it is",
        "  made of.",
        "- `**options`: see there.",
        "",
        "Raises:",
        "",
        "- `ThisError, ThatError`: it cannot.",
        "",
        "Example:",
        "",
        "    >>> do(1)",
    ]
