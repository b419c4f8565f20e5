"""Which changes of runs our stand-in for Supabase's `realtime.send` announces, and how to detect the stand-in.

PostgreSQL lets only one transaction with a NOTIFY commit at a time. So what is announced bounds how many runs a second
can start, and less is announced by default.
"""

import re
from enum import StrEnum

BEFORE_THE_CHOICE = "pg_notify('pgflow'"
"""In the function's text in installations from before there was a choice: it announced everything."""

_MARK = re.compile(r"-- flowworker announces: (none|ends|all)\b")


class RunEventScope(StrEnum):
    """What is announced on channel `pgflow`."""

    NONE = "none"
    """Nothing."""
    ENDS = "ends"
    """That a run has completed or failed."""
    ALL = "all"
    """Every start and end of a run or step."""


DEFAULT_SCOPE = RunEventScope.ENDS


def chosen_scope(source: str | None) -> RunEventScope | None:
    """The scope that an installation chose; None where there is none to keep.

    Args:
        source: text of realtime.send in the database.
    """
    mark = None if source is None else _MARK.search(source)
    return None if mark is None else RunEventScope(mark[1])


def scope_of(source: str | None) -> RunEventScope | None:
    """What is announced now; None where realtime.send is missing or not ours."""
    if source is not None and chosen_scope(source) is None and BEFORE_THE_CHOICE in source:
        return RunEventScope.ALL
    return chosen_scope(source)
