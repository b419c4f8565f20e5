"""Every error FlowWorker raises, and the exit code each one ends a process with.

FlowWorkerError
├── UsageError                  64  the command line or an option is wrong
├── DataError                   65
│   ├── ShapeMismatchError          the flow in code differs from the flow in the database
│   ├── UnknownFlowError            the database has no such flow
│   ├── UnknownQueueError           the database has no such queue
│   ├── UnknownRunError             the database has no such run
│   ├── UnknownJobError             the queue has no such job
│   └── UnsupportedSchemaError      an installation of pgmq or pgflow we do not recognise
├── DefinitionError             66  a flow or queue is defined wrongly
│   └── HandlerImportError          MODULE:OBJECT does not import, or is no flow or queue
├── DatabaseUnavailableError    69  no connection within the deadline
├── InternalError               70  a worker that cannot go on
│   └── LifecycleError              a transition the life cycle does not have
└── AccessError                 77
    ├── AuthenticationError         wrong user, password or certificate
    └── MissingRightsError          the role may not do what is needed
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the `flowworker` command; the numbers are those of BSD's sysexits.

    Two more come from elsewhere: 1 from a command that waited in vain, 130 after Ctrl-C.
    """

    DRAINED = 0
    USAGE = 64
    DATA = 65
    HANDLER = 66
    UNAVAILABLE = 69
    INTERNAL = 70
    ACCESS = 77


class FlowWorkerError(Exception):
    """Base of all errors of this package."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL


class UsageError(FlowWorkerError):
    """The command line, a setting or an option is wrong."""

    exit_code = ExitCode.USAGE


class DataError(FlowWorkerError):
    """The database holds something else than what was asked for."""

    exit_code = ExitCode.DATA


class ShapeMismatchError(DataError):
    """A flow's shape in code differs from its shape in the database."""

    def __init__(self, flow_slug: str, differences: Sequence[str]) -> None:
        """Name the flow and every difference, one sentence each."""
        self.flow_slug = flow_slug
        self.differences = tuple(differences)
        listing = "\n".join(f"  - {difference}" for difference in self.differences)
        super().__init__(
            f"flow {flow_slug!r} differs from the flow in the database:\n{listing}\n"
            f"Give the changed flow a new slug (for example {flow_slug + '_v2'!r}), "
            "or run the code that matches the database."
        )


class UnknownFlowError(DataError):
    """The database has no flow of this slug."""


class UnknownQueueError(DataError):
    """The database has no queue of this name."""


class UnknownRunError(DataError):
    """The database has no run of this id."""


class UnknownJobError(DataError):
    """The queue has no job of this id, neither waiting nor archived."""


class UnsupportedSchemaError(DataError):
    """The database holds pgmq or pgflow objects in a layout we do not recognise."""


class DefinitionError(FlowWorkerError):
    """A flow or a queue is defined wrongly; raised when its module is imported."""

    exit_code = ExitCode.HANDLER


class HandlerImportError(DefinitionError):
    """A `MODULE:OBJECT` reference does not import or names no flow or queue."""


class DatabaseUnavailableError(FlowWorkerError):
    """The database could not be reached, or stopped answering."""

    exit_code = ExitCode.UNAVAILABLE


class InternalError(FlowWorkerError):
    """The worker cannot go on."""


class LifecycleError(InternalError):
    """A life-cycle transition that does not exist."""


class AccessError(FlowWorkerError):
    """The database refused us."""

    exit_code = ExitCode.ACCESS


class AuthenticationError(AccessError):
    """The database refused the user, the password or the certificate."""


class MissingRightsError(AccessError):
    """The database role lacks a right; the message holds the statement that grants it."""
