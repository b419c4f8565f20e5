"""How a worker process ends: in time, with its exit code, and with the reason where Kubernetes looks for it."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from flowworker.redaction import redact
from flowworker.settings import Settings, variable
from flowworker.stop_signals import STOP_SIGNALS
from flowworker.telemetry.line_writer import FLUSH_TIMEOUT

logger = logging.getLogger(__name__)

END_TIMEOUT = 3.5
"""Seconds from the end of the work to that of the process; five are promised."""

REASON_LIMIT = 2048
"""Characters; what Kubernetes keeps of a termination message."""


def end_in_time(code: int, *, timeout: float = END_TIMEOUT) -> None:
    """End this process with a code after the timeout (seconds), unless it has ended by itself.

    Threads that are no daemons, hooks at exit and exporters of telemetry may each keep a process for as long as they
    want, and none of them is under our control.
    """
    threading.Thread(target=_end, args=(code, timeout), name="flowworker-end", daemon=True).start()


def ignore_stop_signals() -> None:
    """Let no signal change the exit code of a process that is about to end anyway."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def termination_log(options: Mapping[str, object], environment: Mapping[str, str]) -> Path:
    """Where the reason of the end goes; known even when the settings as a whole are refused."""
    default = Settings.model_fields["termination_log"].default
    return Path(str(options.get("termination_log") or environment.get(variable("termination_log")) or default))


def leave_reason(path: Path, reason: str) -> None:
    """Write the reason, without secrets, to a file that exists already; a file that does not is left alone."""
    if not path.exists():
        return
    try:
        path.write_text(redact(reason, limit=REASON_LIMIT) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("cannot write the termination message to %s: %s", path, error)


def _end(code: int, timeout: float) -> None:
    time.sleep(timeout)
    last = threading.Thread(target=_flush, daemon=True)
    last.start()
    last.join(FLUSH_TIMEOUT)
    os._exit(code)


def _flush() -> None:
    """Hand over what has been written; its reader may take nothing."""
    for handler in logging.getLogger("flowworker").handlers:
        handler.flush()
    sys.stdout.flush()
