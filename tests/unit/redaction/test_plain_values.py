"""Fields of log lines and of `/state` as plain values."""

import pytest

from flowworker.redaction.plain_values import LONGEST_TEXT, plain, safe_fields


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "DB_PASSWORD", "value": "hunter2"},
        {"value": "hunter2", "name": "DB_PASSWORD"},
        {"key": "client_secret", "type": "string", "value": {"now": "hunter2"}},
    ],
)
def test_the_value_beside_a_name_that_means_a_secret_is_hidden(variable: dict[str, object]) -> None:
    expected = {name: "***" if name == "value" else other for name, other in variable.items()}
    assert plain([variable, {"name": "PGPORT", "value": "5432"}]) == [expected, {"name": "PGPORT", "value": "5432"}]
    assert safe_fields({"variable": variable}) == {"variable": expected}


def test_a_text_of_megabytes_is_cut_and_shows_no_part_of_a_secret() -> None:
    for before in range(LONGEST_TEXT - 40, LONGEST_TEXT, 5):
        shown = plain("x" * before + " postgresql://app:hunter2@db/main " + "word " * 500_000)
        assert isinstance(shown, str)
        assert "hunter" not in shown
        assert len(shown) <= LONGEST_TEXT
