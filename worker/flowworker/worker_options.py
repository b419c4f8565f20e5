"""The options of a worker: their names, defaults, bounds and descriptions. Durations are seconds.

Whatever has these options takes them from here: `Worker` and `WorkerPool`, the variables and command-line options of a
process (`settings`), and the field `spec.worker` of the operator's FlowWorker.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import EnumType, StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypedDict, Unpack, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from flowworker.errors import UsageError
from flowworker.redaction import redact


class Strategy(StrEnum):
    """How a worker learns that there is work."""

    POLLING = "polling"
    NOTIFY = "notify"


class CompileMode(StrEnum):
    """What to do about something that the database lacks."""

    AUTO = "auto"
    """Create it."""
    VERIFY = "verify"
    """Refuse."""


class WhenDrained(StrEnum):
    """What a worker does once a drain request has emptied it."""

    EXIT = "exit"
    WAIT = "wait"
    """Stay, ready and idle, until the request lapses."""


Count: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
Interval: TypeAlias = Annotated[float, Field(ge=0.01, le=3600)]
Patience: TypeAlias = Annotated[float, Field(ge=0, le=604_800)]
Name: TypeAlias = Annotated[str, Field(min_length=1)]


class WorkerOptions(BaseModel):
    """Options of one worker."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    max_concurrency: Annotated[Count, Field(description="Tasks that one worker runs at once.")] = 10
    batch_size: Annotated[Count, Field(description="Most tasks taken with one claim.")] = 10
    signal_strategy: Annotated[
        Strategy, Field(description="`polling` asks at intervals; `notify` listens for inserts and asks at once.")
    ] = Strategy.POLLING
    min_poll_interval: Annotated[Interval, Field(description="Shortest pause between two polls, in seconds.")] = 1.0
    max_poll_interval: Annotated[Interval, Field(description="Longest pause between two polls, in seconds.")] = 5.0
    notify_fallback_interval: Annotated[
        Interval, Field(description="Seconds between polls with `notify` when no notification arrives.")
    ] = 30.0

    drain_timeout: Annotated[
        Patience | None,
        Field(description="Seconds a stopping worker waits for running tasks. Unset: the longest effective timeout."),
    ] = None
    when_drained: Annotated[
        WhenDrained,
        Field(description="After a drain request: `exit` with code 0, or `wait` (ready, idle) until it lapses."),
    ] = WhenDrained.EXIT

    start_timeout: Annotated[
        Patience, Field(description="Seconds to wait for the database at start before giving up with exit code 69.")
    ] = 60.0
    compile: Annotated[
        CompileMode,
        Field(description="`auto` creates a missing flow or queue where the role may; `verify` only checks."),
    ] = CompileMode.AUTO

    worker_id: Annotated[
        UUID | None,
        Field(
            description="Id of the worker. Unset: a new one at every start (recommended). A second process is refused "
            "while the first lives."
        ),
    ] = None
    worker_name: Annotated[
        Name | None,
        Field(description="Name shown in logs, events and `workers list`. Unset: the slug, or pool, and a number."),
    ] = None

    @field_validator("compile", "signal_strategy", "when_drained", mode="before")
    @classmethod
    def _ignore_case(cls, choice: object) -> object:
        return choice.lower() if isinstance(choice, str) else choice

    @model_validator(mode="after")
    def _check_intervals(self) -> Self:
        if self.min_poll_interval > self.max_poll_interval:
            raise ValueError(
                f"{self.spelled('min_poll_interval')} ({self.min_poll_interval:g}) must not be greater than "
                f"{self.spelled('max_poll_interval')} ({self.max_poll_interval:g})"
            )
        return self

    @classmethod
    def spelled(cls, field: str) -> str:
        """How those who set an option name it."""
        return field

    @classmethod
    def checked(cls, **given: "Unpack[WorkerArguments]") -> "WorkerOptions":
        """Options as they were given, with the defaults.

        Raises:
            UsageError: names each option at fault and what is allowed.
        """
        try:
            return cls(**given)  # pyright: ignore[reportArgumentType] - text becomes a member of its enumeration
        except ValidationError as error:
            raise UsageError("\n".join(complaint(cls, one, cls.spelled) for one in error.errors())) from None


class SharedArguments(TypedDict, total=False):
    """The options that a pool passes on to each of its workers, for type checkers; meaning and defaults: above."""

    max_concurrency: int
    batch_size: int
    signal_strategy: str
    min_poll_interval: float
    max_poll_interval: float
    notify_fallback_interval: float
    drain_timeout: float | None
    when_drained: str
    start_timeout: float
    compile: str


class WorkerArguments(SharedArguments, total=False):
    """All options of one worker, for type checkers."""

    worker_id: UUID | None
    worker_name: str | None


def allowed(model: type[BaseModel], field: str) -> str:
    """What a field of a model accepts, in words."""
    info = model.model_fields[field]
    types = [choice for choice in (get_args(info.annotation) or (info.annotation,)) if choice is not type(None)]
    return _in_words(types, _constraints(info))


def complaint(model: type[BaseModel], error: Mapping[str, Any], spelled: Callable[[str], str]) -> str:
    """One line about one error that pydantic has found in a field of a model, or in several together."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    field = str(error["loc"][0])
    given = redact(repr(error["input"]), limit=80)
    return f"{spelled(field)}: {given} is not valid; it must be {allowed(model, field)}"


def _constraints(info: FieldInfo) -> list[Any]:
    """Bounds of a field; those of an optional one sit on the member of the union, inside its own Field."""
    members = [field for choice in get_args(info.annotation) for field in getattr(choice, "__metadata__", ())]
    return [*info.metadata, *(bound for field in members for bound in field.metadata)]


def _in_words(types: list[Any], constraints: list[Any]) -> str:
    kind = types[0]
    choices: Sequence[object] = tuple(kind) if isinstance(kind, EnumType) else types
    if isinstance(choices[0], str):
        return " or ".join(f"`{choice}`" for choice in choices)
    bounds = "".join(map(_bound, constraints))
    return _WORDS[getattr(kind, "__origin__", kind)] + bounds


_WORDS: Mapping[object, str] = {
    bool: "`true` or `false`",
    int: "a whole number",
    float: "a number",
    str: "text that is not empty",
    UUID: "a UUID",
    Path: "a path",
    SecretStr: "a PostgreSQL URI",
}


def _bound(constraint: object) -> str:
    least, most = getattr(constraint, "ge", None), getattr(constraint, "le", None)
    return f" from {least}" if least is not None else f" to {most}" if most is not None else ""
