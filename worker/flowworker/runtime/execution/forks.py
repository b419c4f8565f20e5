"""Processes that a handler has forked: none of them may go on as a second worker on the same connections."""

import logging
import os
from types import TracebackType

logger = logging.getLogger(__name__)


class NoCopyReturns:
    """Ends a process that the block forked and that would go on as a second worker on the same connections."""

    __slots__ = ("_forks_before",)

    def __enter__(self) -> None:
        self._forks_before = _forks

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _forks == self._forks_before:
            return
        if error is not None:
            logger.error("a process forked by a handler ends with an exception", exc_info=error)
        os._exit(0 if error is None else 1)


_forks = 0
"""Forks between the first process and this one. Cheaper to look at than the process id, which is a system call."""


def _count_fork() -> None:
    global _forks  # it describes the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)
