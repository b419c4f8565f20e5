"""Settings: where values come from, what is allowed, and what a wrong one is answered with."""

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flowworker.errors import ExitCode, UsageError
from flowworker.settings import Settings, load_settings, misspelt, option, variable
from flowworker.worker_options import allowed

DSN = "postgresql://app:hunter2@db/main"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FLOWWORKER_"):
            monkeypatch.delenv(name)


def complaint(**options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(**options)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def test_defaults_are_those_of_the_elixir_worker() -> None:
    settings = load_settings()
    assert settings.max_concurrency == 10
    assert settings.batch_size == 10
    assert settings.signal_strategy == "polling"
    assert (settings.min_poll_interval, settings.max_poll_interval) == (1.0, 5.0)
    assert settings.notify_fallback_interval == 30.0


def test_a_variable_sets_a_value_and_an_option_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWWORKER_MAX_CONCURRENCY", "50")
    assert load_settings().max_concurrency == 50
    assert load_settings(max_concurrency=None).max_concurrency == 50
    assert load_settings(max_concurrency=3).max_concurrency == 3


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWWORKER_PROBE_PORT", "")
    assert load_settings().probe_port is None


def test_every_kind_of_value_is_read_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "STATEMENT_CACHE": "false",
        "SIGNAL_STRATEGY": "Notify",
        "LOG_LEVEL": "DEBUG",
        "DRAIN_TIMEOUT": "2.5",
        "WORKER_ID": "00000000-0000-0000-0000-000000000005",
        "PROBE_PORT": "0",
        "TERMINATION_LOG": "/tmp/reason",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"FLOWWORKER_{name}", value)
    settings = load_settings()
    assert settings.statement_cache is False
    assert settings.signal_strategy == "notify"
    assert settings.log_level == "debug"
    assert settings.drain_timeout == 2.5
    assert settings.worker_id == UUID(int=5)
    assert settings.probe_port == 0
    assert settings.termination_log == Path("/tmp/reason")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAX_CONCURRENCY", "many", "a whole number from 1 to 1000"),
        ("MAX_CONCURRENCY", "0", "a whole number from 1 to 1000"),
        ("MAX_CONCURRENCY", "1001", "a whole number from 1 to 1000"),
        ("BATCH_SIZE", "2.5", "a whole number from 1 to 1000"),
        ("MIN_POLL_INTERVAL", "0", "a number from 0.01 to 3600"),
        ("MIN_POLL_INTERVAL", "nan", "a number from 0.01 to 3600"),
        ("DRAIN_TIMEOUT", "inf", "a number from 0 to 604800"),
        ("DRAIN_TIMEOUT", "-1", "a number from 0 to 604800"),
        ("SIGNAL_STRATEGY", "push", "`polling` or `notify`"),
        ("WHEN_DRAINED", "sleep", "`exit` or `wait`"),
        ("COMPILE", "always", "`auto` or `verify`"),
        ("LOG_LEVEL", "loud", "`debug` or `info` or `warning` or `error`"),
        ("LOG_FORMAT", "xml", "`auto` or `json` or `console`"),
        ("WORKER_ID", "7", "a UUID"),
        ("PROBE_PORT", "tcp://10.0.0.1:80", "a whole number from 0 to 65535"),
        ("PROBE_PORT", "65536", "a whole number from 0 to 65535"),
        ("TRACES", "maybe", "`true` or `false`"),
    ],
)
def test_a_wrong_value_is_answered_with_the_variable_and_what_is_allowed(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FLOWWORKER_{name}", value)
    assert complaint() == f"FLOWWORKER_{name}: {value!r} is not valid; it must be {words}"


def test_a_wrong_option_is_answered_with_the_option() -> None:
    assert complaint(batch_size=0) == "--batch-size: 0 is not valid; it must be a whole number from 1 to 1000"


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWWORKER_TRACES", "maybe")
    lines = complaint(batch_size=0).splitlines()
    assert [line.split(":")[0] for line in lines] == ["--batch-size", "FLOWWORKER_TRACES"]


def test_poll_intervals_must_be_in_order() -> None:
    assert complaint(min_poll_interval=10.0) == (
        "FLOWWORKER_MIN_POLL_INTERVAL (10) must not be greater than FLOWWORKER_MAX_POLL_INTERVAL (5)"
    )


def test_an_unknown_option_is_an_error_and_not_lost() -> None:
    with pytest.raises(TypeError, match="concurency"):
        load_settings(concurency=5)


class TestConnectionString:
    def test_comes_from_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWWORKER_DATABASE_URL", DSN)
        assert load_settings().dsn() == DSN

    def test_comes_from_the_file_without_the_line_break_at_its_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "uri").write_text(DSN + "\n")
        monkeypatch.setenv("FLOWWORKER_DATABASE_FILE", str(tmp_path / "uri"))
        assert load_settings().dsn() == DSN

    def test_given_in_two_ways_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWWORKER_DATABASE_URL", DSN)
        monkeypatch.setenv("FLOWWORKER_DATABASE_FILE", str(tmp_path))
        assert complaint() == "FLOWWORKER_DATABASE_URL and FLOWWORKER_DATABASE_FILE exclude each other; set one of them"

    def test_as_an_option_overrides_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWWORKER_DATABASE_FILE", "/nowhere")
        assert load_settings(database_url=DSN).dsn() == DSN

    def test_file_as_an_option_overrides_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWWORKER_DATABASE_URL", "postgresql://other/db")
        (tmp_path / "uri").write_text(DSN)
        assert load_settings(database_file=tmp_path / "uri").dsn() == DSN

    def test_missing_says_what_to_set(self) -> None:
        with pytest.raises(UsageError, match="set FLOWWORKER_DATABASE_URL or FLOWWORKER_DATABASE_FILE, or give --dsn"):
            load_settings().dsn()

    def test_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"FLOWWORKER_DATABASE_FILE: cannot read .*/uri: No such file"):
            load_settings(database_file=tmp_path / "uri").dsn()

    def test_file_that_is_a_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Is a directory"):
            load_settings(database_file=tmp_path).dsn()

    def test_file_that_is_empty_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "uri").write_text(" \n")
        with pytest.raises(UsageError, match="is empty; it must hold a PostgreSQL URI"):
            load_settings(database_file=tmp_path / "uri").dsn()

    def test_file_that_is_no_text_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "uri").write_bytes(b"\xff\xfe")
        with pytest.raises(UsageError, match="it is not UTF-8 text"):
            load_settings(database_file=tmp_path / "uri").dsn()

    def test_of_the_pulse_is_the_ordinary_one_unless_given(self, tmp_path: Path) -> None:
        assert load_settings(database_url=DSN).direct_dsn() is None
        (tmp_path / "direct").write_text("postgresql://direct/db")
        settings = load_settings(database_url=DSN, direct_database_file=tmp_path / "direct")
        assert settings.direct_dsn() == "postgresql://direct/db"

    def test_never_shows_in_text_of_the_settings(self) -> None:
        settings = load_settings(database_url=DSN, direct_database_url=DSN)
        assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()

    def test_put_into_the_wrong_variable_keeps_its_password_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWWORKER_WORKER_ID", DSN)
        assert "hunter2" not in complaint()


def test_a_misspelt_variable_is_noticed_and_foreign_ones_are_left_alone() -> None:
    environment = ["FLOWWORKER_MAX_CONCURENCY", "FLOWWORKER_PORT_80_TCP", "FLOWWORKER_BATCH_SIZE", "PATH"]
    assert misspelt(environment) == [
        "FLOWWORKER_MAX_CONCURENCY is not a setting and is ignored; did you mean FLOWWORKER_MAX_CONCURRENCY?"
    ]


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_described_and_says_what_is_allowed(field: str) -> None:
    description = Settings.model_fields[field].description
    assert description is not None
    assert description.endswith(".")
    assert allowed(Settings, field)
    assert variable(field) == "FLOWWORKER_" + field.upper()
    assert option(field) == {"database_url": "--dsn"}.get(field, "--" + field.replace("_", "-"))


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_duration_says_that_it_is_in_seconds(field: str) -> None:
    info = Settings.model_fields[field]
    if field.endswith(("_timeout", "_interval")):
        assert "econds" in (info.description or "")
