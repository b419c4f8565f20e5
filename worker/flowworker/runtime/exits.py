"""How a worker or a pool ended."""

from collections.abc import Iterable
from dataclasses import dataclass

from flowworker.errors import AccessError, DataError, ExitCode, FlowWorkerError, InternalError, UsageError


class SlotsExhaustedError(InternalError):
    """Every slot is taken by a handler that is past its deadline and does not end; only a new process helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end, with its reason."""

    code: ExitCode
    reason: str
    error: BaseException | None = None
    """What ended it; None for an end that was asked for."""

    @property
    def permanent(self) -> bool:
        """Whether starting again in this process cannot help."""
        return self.error is None or isinstance(self.error, DataError | UsageError | AccessError | SlotsExhaustedError)


def asked_for(reason: str) -> Exit:
    """An exit that was requested."""
    return Exit(code=ExitCode.DRAINED, reason=reason)


def caused_by(error: BaseException) -> Exit:
    """An end by an error."""
    if isinstance(error, FlowWorkerError):
        return Exit(code=error.exit_code, reason=str(error), error=error)
    return Exit(code=ExitCode.INTERNAL, reason=f"{type(error).__name__}: {error}", error=error)


def worst(exits: Iterable[Exit]) -> Exit:
    """The end that speaks for several: the first with an error, else the first."""
    known = tuple(exits)
    return next((one for one in known if one.error is not None), known[0] if known else asked_for("nothing to do"))
