"""Log records as JSON lines. Direct, because a worker writes a line for every task it completes.

Whatever a record holds, it becomes a line: arguments that do not fit the message, values that JSON cannot carry, text
that is no Unicode. A line that could not be made would be replaced by a traceback with all the arguments in it.
"""

import logging
from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from flowworker.redaction import redact
from flowworker.redaction.plain_values import LONGEST_TEXT, name_of, safe_fields, shown

running: ContextVar[Mapping[str, Any] | None] = ContextVar("flowworker_running_task", default=None)
"""Ids of the task whose handler runs in this context, for the log lines of handlers and libraries. Not the task: what a
handler starts may keep its context for long, and with it the input."""

EVENT_LOGGER = "flowworker.events"
"""The logger of the lines that the worker's events make; one for each task, so they must be cheap."""

_TEXTS = frozenset({"error", "reason", "exception", "stack"})
"""Fields of those lines that carry text from elsewhere, and so perhaps a password; the others are ids and figures."""

OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

_NOT_EXTRA = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "event", "logger", "level", "timestamp"}
)


class JsonFormatter(logging.Formatter):
    """One object a line: the message under `event`, logger, level, time, ids of the running task, and all `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(cast("object", record.msg), dict):  # structlog has made the line already
            return to_json(record.msg)
        line = _line(message_of_record(record), record.name, record.levelname, record.created)
        line.update((name, value) for name, value in record.__dict__.items() if name not in _NOT_EXTRA)
        if record.exc_info:
            line["exception"] = self._exception(record)
        if record.stack_info:
            line["stack"] = record.stack_info
        if record.name == EVENT_LOGGER:
            hide_secrets(line, _TEXTS)
            return to_json(line)
        return to_json(safe_fields(line))

    def format_event(self, message: str, level: int, created: float, fields: Mapping[str, Any]) -> str:
        """The line of a record of the events' logger, without the record: making one costs as much as all the rest.

        The fields are those of an event, whose texts hold no secrets any more.
        """
        line = _line(message, EVENT_LOGGER, logging.getLevelName(level), created)
        line.update(fields)
        return to_json(line)

    def _exception(self, record: logging.LogRecord) -> str:
        try:
            assert record.exc_info
            return self.formatException(record.exc_info)
        except BaseException as error:  # noqa: BLE001 - exceptions are objects of the user's classes
            return f"<exception that cannot be shown: {name_of(type(error))}>"


def _line(message: str, logger: str, level: str, created: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "event": message,
        "logger": logger,
        "level": level.lower(),
        "timestamp": datetime.fromtimestamp(created, UTC),
    }
    if (ids := running.get()) is not None:
        line.update(ids)
    return line


def message_of_record(record: logging.LogRecord) -> str:
    """A record's message; its plain text where the arguments do not fit it."""
    try:
        return record.getMessage()
    except BaseException:  # noqa: BLE001 - a user's __str__, too, may raise anything
        return f"{shown(record.msg)} (its arguments do not fit it)"


def hide_secrets(line: MutableMapping[str, Any], names: Iterable[str]) -> None:
    """Redact the text in fields of these names."""
    if line.keys().isdisjoint(names):
        return
    for name in names:
        value = line.get(name)
        if isinstance(value, str):
            line[name] = redact(value, limit=LONGEST_TEXT)


def to_json(fields: Any, **_: object) -> str:
    """A line as JSON; what JSON does not know becomes text."""
    try:
        return orjson.dumps(fields, default=shown, option=OPTIONS).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(safe_fields(fields), default=shown, option=OPTIONS).decode()
