"""Log records as JSON lines. Direct, because a worker writes a line for every task it completes."""

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from flowworker.redaction import redact
from flowworker.telemetry.events import TaskStarted
from flowworker.telemetry.log_lines import task_fields

running: ContextVar[TaskStarted | None] = ContextVar("flowworker_running_task", default=None)
"""The task whose handler runs in this context; gives the log lines of handlers and libraries their ids."""

_TEXTS = ("event", "error", "reason", "exception", "stack")
"""Fields that carry text from elsewhere, and so perhaps a password."""

_NOT_EXTRA = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "event", "logger", "level", "timestamp"}
)


class JsonFormatter(logging.Formatter):
    """One object a line: the message under `event`, logger, level, time, ids of the running task, and all `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(cast("object", record.msg), dict):  # structlog has made the line already
            return to_json(record.msg)
        line: dict[str, Any] = {
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC),
        }
        if (started := running.get()) is not None:
            line.update(task_fields(started.worker, started.task))
        line.update((name, value) for name, value in record.__dict__.items() if name not in _NOT_EXTRA)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        hide_secrets(line)
        return to_json(line)


def hide_secrets(line: MutableMapping[str, Any]) -> None:
    """Redact the fields of a line that carry text from elsewhere."""
    for name in _TEXTS:
        text = line.get(name)
        if isinstance(text, str):
            line[name] = redact(text)


def to_json(fields: Any, **_: object) -> str:
    """A line as JSON; what JSON does not know becomes text."""
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()
