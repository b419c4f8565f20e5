"""The decisions behind commands that need no database."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import typer

from flowworker.cli.app import explain
from flowworker.cli.draining import chosen
from flowworker.cli.process_end import leave_reason
from flowworker.cli.reloading import end_message
from flowworker.cli.run import termination_log
from flowworker.cli.values import headers, json_text
from flowworker.database.records import SourceKind
from flowworker.database.workers_admin import WorkerReport
from flowworker.definition.codec import InputError
from flowworker.definition.json_text import JsonText
from flowworker.errors import DataError, MissingRightsError, UsageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def report(number: int, slug: str, pod: str | None = None) -> WorkerReport:
    return WorkerReport(
        worker_id=UUID(int=number),
        worker_name=f"{slug}-{number}",
        kind=SourceKind.FLOW,
        slug=slug,
        state="running",
        in_flight=0,
        slots=10,
        completed=0,
        failed=0,
        pod_name=pod,
        pod_uid=None if pod is None else f"uid-{pod}",
        version="0",
        last_error=None,
        started_at=NOW,
        reported_at=NOW,
        age=1.0,
        drain_until=None,
        drain_reason=None,
    )


ONE, TWO, OTHER = report(1, "shop", "a"), report(2, "shop", "b"), report(3, "other")
ALL = [ONE, TWO, OTHER]


@pytest.mark.parametrize(
    ("targets", "slug", "expected"),
    [
        ([str(UUID(int=1))], None, [ONE]),
        (["shop-2"], None, [TWO]),
        (["a"], None, [ONE]),
        (["uid-b", "other-3"], None, [TWO, OTHER]),
        ([], "shop", [ONE, TWO]),
        (["a"], "shop", [ONE]),
    ],
)
def test_workers_are_meant_by_id_name_pod_uid_or_slug(
    targets: list[str], slug: str | None, expected: list[WorkerReport]
) -> None:
    assert chosen(ALL, targets, slug) == expected


@pytest.mark.parametrize(
    ("targets", "slug", "error", "message"),
    [
        ([], None, UsageError, "name workers"),
        (["a", "c"], None, DataError, "called 'c';"),
        (["a"], "other", DataError, "serves 'other'"),
        ([], "nobody", DataError, "serves 'nobody'"),
    ],
)
def test_no_worker_is_drained_by_mistake(
    targets: list[str], slug: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        chosen(ALL, targets, slug)


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (UsageError("wrong"), "wrong", 64),
        (typer.BadParameter("wrong"), "Invalid value: wrong", 64),
        (DataError("missing"), "missing", 65),
        (InputError("field x"), "field x", 65),
        (MissingRightsError("no"), "no", 77),
        (KeyboardInterrupt(), "", 130),
        (ZeroDivisionError("x"), "ZeroDivisionError: x (this is a bug; --debug shows where it happened)", 70),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, message: str, code: int) -> None:
    assert explain(error) == (message, code)


def test_json_comes_from_everywhere_and_stays_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text("[1]")
    assert json_text(None, "--input") is None
    assert json_text('{"a": 12345678901234567890.10}', "--input") == JsonText('{"a": 12345678901234567890.10}')
    assert json_text(f"@{tmp_path}/value.json", "--input") == JsonText("[1]")


@pytest.mark.parametrize("text", ["{", "word", "@/does/not/exist", "@", '{"a": 1, "a": 2}', "NaN"])
def test_what_is_no_json_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--payload"):
        json_text(text, "--payload")


def test_headers_are_pairs() -> None:
    assert headers(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}
    assert headers([]) is None
    with pytest.raises(UsageError, match="NAME=VALUE"):
        headers(["a"])


def test_a_reason_is_left_without_secrets_and_only_where_it_is_awaited(tmp_path: Path) -> None:
    waiting, absent = tmp_path / "waiting", tmp_path / "absent"
    waiting.touch()
    for path in (waiting, absent, tmp_path):
        leave_reason(path, "no connection to postgresql://user:hunter2@host/db " + "x" * 5000)
    assert waiting.read_text().startswith("no connection to postgresql://user:***@host/db")
    assert len(waiting.read_text()) <= 2049
    assert not absent.exists()


def test_the_termination_log_is_known_without_valid_settings() -> None:
    assert termination_log({}, {}) == Path("/dev/termination-log")
    assert termination_log({}, {"FLOWWORKER_TERMINATION_LOG": "/a"}) == Path("/a")
    assert termination_log({"termination_log": "/b"}, {"FLOWWORKER_TERMINATION_LOG": "/a"}) == Path("/b")


def test_dev_explains_a_changed_flow() -> None:
    assert "--reset" in end_message(65)
    assert end_message(70) == "the worker ended with code 70; waiting for a change"
