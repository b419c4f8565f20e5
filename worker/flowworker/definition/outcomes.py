"""What a handler may raise to choose what happens next."""


class Retry(Exception):  # noqa: N818 - read as a command: `raise Retry(after=30)`
    """Fail this attempt and choose when the next one starts; attempts are still counted.

    Example:
        >>> raise Retry(after=30)  # doctest: +SKIP
    """

    def __init__(self, message: str = "the handler asked for a retry", *, after: float) -> None:
        """Take the delay in seconds, 0 or more.

        Raises:
            ValueError: `after` is negative.
        """
        if after < 0:
            raise ValueError(f"Retry(after=…) takes 0 seconds or more, got {after}")
        super().__init__(message)
        self.after = after


class Fail(Exception):  # noqa: N818 - read as a command: `raise Fail("no such account")`
    """Fail the task for good: no further attempt, whatever `max_attempts` says."""

    def __init__(self, message: str) -> None:
        """Take the text that is stored as the task's error."""
        super().__init__(message)
