"""What can go wrong with a cluster of ours; every message says what happened and what to do."""


class ClusterError(Exception):
    """Base of everything raised here."""


class BuildError(ClusterError):
    """A program could not be built."""


class StartError(ClusterError):
    """A daemon did not come up in time; the message ends with the last lines of its log."""


class ApiError(ClusterError):
    """The API server refused a request.

    Attributes:
        status: HTTP status.
        reason: the server's reason in one word, for example Invalid, Forbidden or Conflict.
        message: the server's words.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Keep the three apart, and show all of them."""
        self.status, self.reason, self.message = status, reason, message
        super().__init__(f"{status} {reason}: {message}")
