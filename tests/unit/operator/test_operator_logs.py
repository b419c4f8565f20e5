"""The form of log lines."""

import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import structlog

from flowworker_operator.logs import configure_logging
from flowworker_operator.settings import LogFormat


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_of_ours_and_of_libraries_have_one_form() -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="json", stream=out)
    structlog.stdlib.get_logger("ours").info("scaled", replicas=3, reason="Backlog")
    logging.getLogger("theirs").warning("lost %d of %s", 2, "many")
    first, second = lines(out)
    assert (first["event"], first["replicas"], first["level"], first["logger"]) == ("scaled", 3, "info", "ours")
    assert (second["event"], second["level"], second["logger"]) == ("lost 2 of many", "warning", "theirs")
    assert first.keys() >= {"timestamp"} <= second.keys()


def test_no_secret_gets_through() -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="json", stream=out)
    dsn = "postgresql://app:hunter2@db/app"
    structlog.stdlib.get_logger("ours").warning("no answer", error=f"from {dsn}")
    logging.getLogger("theirs").warning("no answer from %s", dsn)
    try:
        raise RuntimeError(dsn)
    except RuntimeError:
        logging.getLogger("theirs").exception("failed")
    assert "hunter2" not in out.getvalue()
    assert len(lines(out)) == 3


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_moves_a_terminal_or_hides_a_part_of_a_line_stays_out_of_it(form: LogFormat) -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format=form, stream=out)
    evil = "a\x1b[2J\u202eb\x9b31m\x07c"
    structlog.stdlib.get_logger("ours").warning(evil, why=evil, of=[{evil: (evil,)}])
    logging.getLogger("theirs").warning("said %s", evil)
    try:
        raise RuntimeError(evil)
    except RuntimeError:
        logging.getLogger("theirs").exception("failed")
    text = out.getvalue()
    assert text.count("a[2Jb31mc") == 6
    assert all(line.isprintable() and "\\u" not in line and "\\x" not in line for line in text.splitlines())


class Rude:
    """An object that is no help to a log."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_what_json_cannot_carry_costs_no_line_and_brings_no_secret() -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="json", stream=out)
    dsn = "postgresql://app:hunter2@db/app"
    circle: list[Any] = []
    circle.append(circle)
    structlog.stdlib.get_logger("ours").warning(
        "odd", rude=Rude(), circle=circle, number=1 << 80, half="\ud800", error=OSError(dsn), deep={"of": [dsn]},
        password="hunter2", raw=dsn.encode(), when=datetime(2026, 1, 1, tzinfo=UTC), replicas=3,
    )  # fmt: skip
    logging.getLogger("theirs").warning("of %s and %s", {"dsn": dsn}, OSError(dsn))
    ours, theirs = lines(out)
    assert "hunter2" not in out.getvalue()
    assert (ours["event"], ours["rude"], ours["replicas"]) == ("odd", "<Rude that cannot be shown>", 3)
    assert (ours["number"], ours["when"]) == (str(1 << 80), "2026-01-01T00:00:00Z")
    assert "@db/app" in ours["error"]
    assert theirs["level"] == "warning"


@pytest.mark.parametrize("argument", ["hunter2", Rude()])
def test_a_message_that_its_arguments_do_not_fit_is_written_without_them(
    argument: object, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="json", stream=out)
    logging.getLogger("theirs").warning("lost %d", argument)
    (line,) = lines(out)
    assert line["event"] == "lost %d (its arguments do not fit it)"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_without_text_costs_no_line(log_format: LogFormat) -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format=log_format, stream=out)
    structlog.stdlib.get_logger("ours").warning("odd", rude=Rude(), error=OSError("postgresql://a:hunter2@h/d"))
    assert "odd" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_ordinary_lines_of_kopf_are_not_written() -> None:
    out = io.StringIO()
    configure_logging(level="debug", log_format="json", stream=out)
    logging.getLogger("kopf.objects").info("handler succeeded")
    logging.getLogger("kopf.objects").warning("handler failed")
    assert [line["event"] for line in lines(out)] == ["handler failed"]


def test_a_watch_that_tries_again_is_no_error() -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="json", stream=out)
    logging.getLogger("kopf._cogs.clients.watching").error("Request attempt #1/9 failed; will retry")
    logging.getLogger("kopf._core.reactor.queueing").error("an error in earnest")
    assert [line["level"] for line in lines(out)] == ["warning", "error"]


def test_people_get_lines_without_colours_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    configure_logging(level="info", log_format="console", stream=out)
    structlog.stdlib.get_logger("ours").info("scaled", replicas=3)
    assert "scaled" in out.getvalue()
    assert "replicas=3" in out.getvalue()
    assert "\x1b" not in out.getvalue()
