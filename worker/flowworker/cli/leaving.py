"""The end of a process that has said that it stopped: soon, and with its exit code, whatever still runs in it."""

import logging
import os
import signal
import sys
import threading
import time

from flowworker.first_process import STOP_SIGNALS
from flowworker.telemetry.line_writer import FLUSH_TIMEOUT

END_TIMEOUT = 3.5
"""Seconds from the end of the work to that of the process; five are promised."""


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
