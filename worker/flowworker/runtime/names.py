"""Names of workers and pools that are in use in this process: a second one of the same name is refused."""

from flowworker.errors import UsageError

_in_use: set[str] = set()


def claim_name(name: str) -> None:
    """Take a name.

    Raises:
        UsageError: the name is in use in this process.
    """
    if name in _in_use:
        raise UsageError(f"the name {name!r} is in use in this process; give the pool or worker another one")
    _in_use.add(name)


def release_name(name: str) -> None:
    """Give a name back; unknown names are ignored."""
    _in_use.discard(name)
