"""What is written by libraries, and by Python itself, in a process of ours that has not imported structlog."""

import json
import subprocess
import sys
from typing import Any

PROLOGUE = """
import sys
from flowworker.telemetry.logs import configure_logging
configure_logging(level="info", log_format="json")
assert "structlog" not in sys.modules
"""


def lines_of(program: str) -> list[dict[str, Any]]:
    """What a program logs; nothing else may be written."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_stamina_s_retries_are_lines_like_all_others() -> None:
    program = """
import stamina
for attempt in stamina.retry_context(on=ConnectionError, attempts=2, wait_initial=0.0, wait_jitter=0.0):
    with attempt:
        if attempt.num == 1:
            raise ConnectionError("postgres://me:hunter2@db/x")
"""
    (line,) = lines_of(program)
    assert line["event"] == "stamina.retry_scheduled"
    assert line["level"] == "warning"
    assert "hunter2" not in json.dumps(line)


def test_structlog_imported_late_is_configured_all_the_same() -> None:
    (line,) = lines_of("import structlog\nstructlog.get_logger('app').info('late', size=5)\n")
    assert (line["event"], line["logger"], line["size"]) == ("late", "app", 5)


def test_the_end_of_a_program_by_an_exception_is_one_line() -> None:
    (line,) = lines_of("raise ValueError('password=hunter2')\n")
    assert line["level"] == "critical"
    assert "hunter2" not in line["exception"]


def test_exceptions_of_threads_destructors_and_hooks_at_exit_are_lines() -> None:
    program = """
import atexit, threading
thread = threading.Thread(target=lambda: 1 / 0, name="mine")
thread.start()
thread.join()
threading.Thread(target=sys.exit).start()
class Careless:
    def __del__(self):
        raise ValueError("in a destructor")
Careless()
def hook():
    raise KeyError("at exit")
atexit.register(hook)
"""
    lines = lines_of(program)
    assert [line["exception"].splitlines()[-1] for line in lines] == [
        "ZeroDivisionError: division by zero",
        "ValueError: in a destructor",
        "KeyError: 'at exit'",
    ]
    assert lines[0]["event"] == "thread 'mine' ended with an exception"


def test_hooks_that_a_program_has_set_itself_are_left_alone() -> None:
    program = """
import threading
threading.excepthook = mine = lambda what: None
configure_logging(level="info", log_format="json")
assert threading.excepthook is mine
"""
    assert lines_of(program) == []


def test_a_record_that_cannot_be_formatted_for_a_terminal_shows_no_argument() -> None:
    program = """
import logging
configure_logging(level="info", log_format="console")
logging.getLogger("app").error("%d of %s", "hunter2")
class Hostile:
    def __str__(self): raise RuntimeError
    __repr__ = __str__
logging.getLogger("app").error("odd", extra={"thing": Hostile()})
"""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program], check=False, capture_output=True, text=True, timeout=60
    )
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "%d of %s (its arguments do not fit it)" in done.stderr
    assert "odd" in done.stderr
