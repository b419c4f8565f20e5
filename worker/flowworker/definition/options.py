"""Options of flows, steps and queues, in pgflow's words and units."""

from collections.abc import Mapping
from dataclasses import dataclass

from flowworker.definition.place import Place

LARGEST = 2**31 - 1
"""The options are stored as PostgreSQL integers."""

_SMALLEST: Mapping[str, int] = {"max_attempts": 1, "base_delay": 0, "timeout": 1, "start_delay": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """Options of a flow; the defaults are those of `pgflow.create_flow`."""

    max_attempts: int = 3
    base_delay: int = 5
    """Seconds; attempt n + 1 starts `base_delay * 2 ** n` seconds after attempt n failed."""
    timeout: int = 60
    """Seconds one attempt may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Options of a step; None inherits the flow's."""

    max_attempts: int | None = None
    base_delay: int | None = None
    timeout: int | None = None
    start_delay: int | None = None
    """Seconds between a step becoming ready and its tasks becoming visible; None is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """Options of a queue of jobs, with the meaning they have for a flow."""

    max_attempts: int = 5
    base_delay: int = 5
    timeout: int = 60


def check_retries(*, max_attempts: int, base_delay: int, place: Place, subject: str) -> None:
    """Refuse more attempts than pgflow can compute a delay for: `base_delay * 2 ** attempt`, as an integer.

    It computes it after each attempt but the last, also where the handler chooses the delay.

    Raises:
        DefinitionError: the delay after the last attempt but one is too large.
    """
    if base_delay and base_delay * 2 ** min(max_attempts - 1, 64) > LARGEST:
        most = (LARGEST // base_delay).bit_length()
        raise place.error(
            subject,
            f"max_attempts must be at most {most} with base_delay {base_delay}, got {max_attempts}: pgflow computes a "
            "delay as base_delay * 2 ** attempt and holds no more than 68 years; base_delay=0 has no such limit",
        )


def check_options(options: Mapping[str, object], *, place: Place, subject: str) -> None:
    """Refuse values that PostgreSQL or pgflow would refuse, or that make no sense.

    Raises:
        DefinitionError: a value that is no whole number, or out of range.
    """
    for name, value in options.items():
        if value is None:
            continue
        smallest = _SMALLEST[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise place.error(subject, f"{name} must be a whole number, got {value!r}")
        if not smallest <= value <= LARGEST:
            raise place.error(subject, f"{name} must be between {smallest} and {LARGEST}, got {value}")
