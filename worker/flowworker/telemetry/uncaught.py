"""Exceptions that Python itself prints to standard error become log lines: of threads, of destructors, of the program.

A hook that the program or one of its libraries has set is left alone.
"""

import logging
import sys
import threading
from types import TracebackType

logger = logging.getLogger(__name__)


def log_uncaught_exceptions() -> None:
    """Set the hooks that are still Python's own."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _of_the_program
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _of_a_thread


def _of_the_program(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("the program ends with an exception", exc_info=(kind, error, trace))


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Where nothing can be raised: a destructor, a callback at exit."""
    place = getattr(what.object, "__qualname__", type(what.object).__name__)
    cause = (what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
    logger.error("%s in %s", what.err_msg or "an exception was ignored", place, exc_info=cause)


def _of_a_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is None or issubclass(what.exc_type, SystemExit):
        return
    name = "a thread" if what.thread is None else f"thread {what.thread.name!r}"
    logger.error("%s ended with an exception", name, exc_info=what.exc_value)
