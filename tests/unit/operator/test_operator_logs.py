"""The form of log lines."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog

from flowworker_operator.logs import configure_logging


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
