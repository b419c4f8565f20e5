"""What a handler may raise to choose what happens next."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Real
from typing import Any, cast


class Retry(Exception):  # noqa: N818 - read as a command: `raise Retry(after=30)`
    """Fail this attempt and choose when the next one starts; attempts are still counted.

    Example:
        >>> raise Retry(after=30)  # doctest: +SKIP
    """

    def __init__(self, message: str = "the handler asked for a retry", *, after: float) -> None:
        """Take the delay in seconds, 0 or more.

        Raises:
            TypeError: `after` is no number.
            ValueError: `after` is negative or not finite.
        """
        given: object = after  # callers need not be typed
        if not isinstance(given, Real):
            raise TypeError(f"Retry(after=…) takes a number of seconds, got {given!r}")
        if not 0 <= after < math.inf:
            raise ValueError(f"Retry(after=…) takes 0 seconds or more, got {after}")
        super().__init__(message)
        self.after = after

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """A child process sends it to the worker; pickle alone forgets keyword arguments."""
        return partial(type(self), after=self.after), self.args


class Fail(Exception):  # noqa: N818 - read as a command: `raise Fail("no such account")`
    """Fail the task for good: no further attempt, whatever `max_attempts` says."""

    def __init__(self, message: str = "the handler failed for good") -> None:
        """Take the text that is stored as the task's error."""
        super().__init__(message)


def wish_in(error: BaseException) -> BaseException:
    """What an exception asks for: a `Fail` or `Retry` in a group, as a TaskGroup raises it; itself where there is none.

    A `Fail` wins over everything else in the group; of several `Retry` the one that waits longest does.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    members = list(_members(group))
    fails = [member for member in members if isinstance(member, Fail)]
    retries = [member for member in members if isinstance(member, Retry)]
    return next(iter(fails), max(retries, key=_wait_of, default=group))


def _wait_of(retry: Retry) -> float:
    """A subclass may leave `after` out, or out of shape; that is said where the failure is described."""
    after: object = getattr(retry, "after", None)
    return after if isinstance(after, int | float) else 0.0


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _members(cast("BaseExceptionGroup[BaseException]", member))
        else:
            yield member
