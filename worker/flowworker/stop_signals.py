"""The signals that end programs, and what a process does about them before anything else. Imports nothing heavy.

A stop signal often reaches every process of a worker at once: systemd sends it to the whole unit, a terminal to the
whole foreground group. The worker decides what becomes of its handlers, so their processes outlast the signal.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that people, terminals and service managers end programs with."""


def end_at_sigterm() -> None:
    """Let SIGTERM end this process until a better handler is set.

    The kernel protects the first process of a container from every signal that it does not handle. Our images have an
    init there; this is for images without one. A pod that is deleted while Python still imports would otherwise ignore
    the signal, and be killed after its whole grace period.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def outlast_stop_signals() -> None:
    """Let stop signals pass without effect. For the processes of handlers, on their main thread.

    A Python function that does nothing, and not SIG_IGN: programs started from here would inherit the latter.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _pass)


def copies_begin_afresh(wanted: Callable[[], bool], then: Callable[[], None] | None = None) -> None:
    """Give forked copies of this process the signals that a program begins with.

    A copy inherits the descriptor by which an event loop is woken for a signal: a SIGTERM meant for the copy, such as
    that of `multiprocessing.Pool`, would stop the worker. A signal that comes before the copy is ready waits for it.

    Args:
        wanted: asked at each fork; the interpreter never forgets a hook.
        then: called in the copy, where the thread that forked is the main thread.
    """
    masks = threading.local()

    def before() -> None:
        masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS) if wanted() else None

    def in_parent() -> None:
        if masks.kept is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

    def in_copy() -> None:
        if masks.kept is not None:
            _restore_defaults()
            if then is not None:
                then()
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_copy)


def _restore_defaults() -> None:
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) not in {signal.SIG_DFL, signal.SIG_IGN}:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Take note of nothing."""
