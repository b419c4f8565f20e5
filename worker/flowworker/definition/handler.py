"""A user's function with everything needed to run it: read its arguments, call it, write its output."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ValidationError

from flowworker.definition.codec import InputError, OutputError, Reader, Writer, read_exactly
from flowworker.definition.context import TaskContext
from flowworker.definition.exact_numbers import SHORT, ExactReader
from flowworker.definition.outcomes import wish_in
from flowworker.definition.place import HandlerReference
from flowworker.definition.quoting import explain


class RunMode(StrEnum):
    """Where a handler runs."""

    ASYNC = "async"
    """On the worker's event loop."""
    THREAD = "thread"
    PROCESS = "process"
    """In a child process, which a timeout can kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Decoded values of all parameters but the context."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Reads the outputs of all dependencies in one go."""

    subject: str
    model: type[BaseModel]
    """One field per parameter, `p0` for the first…, aliased to the step's slug: any slug is a legal alias."""
    names: tuple[str, ...]
    _exact: ExactReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", ExactReader(self.model.__pydantic_core_schema__))

    def read(self, text: bytes) -> dict[str, Any]:
        """Values by parameter name.

        Raises:
            InputError: an output does not fit its parameter, or is missing although the parameter needs it.
        """
        try:
            # The validator itself: `model_validate_json` is a wrapper that a hot path need not pay for.
            found = self.model.__pydantic_validator__.validate_json(text)
        except ValidationError as error:
            raise InputError(self._explained(error)) from None
        if len(text) > SHORT and self._exact.wanted(text):
            found = read_exactly(self._exact, text, f"input of {self.subject}")
        return {name: getattr(found, f"p{number}") for number, name in enumerate(self.names)}

    def _explained(self, error: ValidationError) -> str:
        skipped = [
            str(problem["loc"][0])
            for problem in error.errors()
            if problem["type"] == "missing" and len(problem["loc"]) == 1
        ]
        if not skipped:
            return explain(error, f"input of {self.subject}")
        return (
            f"input of {self.subject}: no output of step {', '.join(map(repr, skipped))}, it was skipped; "
            "give the parameter a default, or make it optional, to run without it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedReader:
    """Reads one JSON value into one parameter."""

    name: str
    type: Any
    reader: Reader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Handler:
    """One handler of a step or of a queue's jobs."""

    location: HandlerReference
    subject: str
    """For messages: `step 'total' of flow 'site_report'`."""
    function: Callable[..., Any]
    mode: RunMode
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    context: str | None
    """The parameter that takes the context."""
    payload: NamedReader | None
    """The parameter that takes the element of a map task or the payload of a job."""
    dependencies: Dependencies | None
    run_input: NamedReader | None
    needs_flow_input: bool
    """The run's input is wanted although the claim may not carry it."""
    writer: Writer
    output: Any
    """The annotated return type; Any where there is none."""
    feeds_map: str | None = None
    """A map step over this single step, which makes its output a JSON array."""

    @property
    def reference(self) -> str:
        """The handler's name for messages, in the style of `app.flows:site_report.total`."""
        return str(self.location)

    @property
    def wants_context(self) -> bool:
        """Whether a parameter is annotated `TaskContext`."""
        return self.context is not None

    def undirected_names(self) -> frozenset[str]:
        """Parameters that take something else than a step's output, although a step could have their name."""
        return frozenset(reader.name for reader in (self.payload, self.run_input) if reader is not None)

    def decode(self, input: bytes, flow_input: bytes | None) -> Arguments:  # noqa: A002 - pgflow's word
        """Read the arguments.

        Args:
            input: JSON; dependency outputs, the element of a map task, or the payload of a job.
            flow_input: JSON of the run's input, where the handler takes it.

        Raises:
            InputError: the JSON does not fit the signature.
        """
        values: dict[str, Any] = {}
        if self.payload is not None:
            values[self.payload.name] = self.payload.reader.read(input)
        if self.dependencies is not None:
            values.update(self.dependencies.read(input))
        if self.run_input is not None:
            if flow_input is None:
                raise InputError(f"{self.run_input.reader.subject}: the run's input was not loaded")
            values[self.run_input.name] = self.run_input.reader.read(flow_input)
        return Arguments(values=values)

    def call(self, arguments: Arguments, context: TaskContext | None) -> Any:
        """Call the function; a coroutine for `RunMode.ASYNC`. Only a function that `wants_context` needs one."""
        values = {**arguments.values, self.context: context} if self.context else arguments.values
        try:
            return self.function(
                *(values[name] for name in self.positional), **{name: values[name] for name in self.keywords}
            )
        except ExceptionGroup as group:
            raise wish_in(group) from group

    def encode(self, output: object) -> bytes:
        """Write the output as JSON.

        Raises:
            OutputError: it does not fit the return type, JSON or jsonb cannot hold it, or a map needs an array.
        """
        try:
            text = self.writer.write(output)
        except OutputError as error:
            if not inspect.iscoroutine(output):
                raise
            output.close()
            raise OutputError(
                f"{self.writer.subject} is a coroutine, which nothing awaits in a `def` handler; make it `async def`"
            ) from error
        if self.feeds_map is not None and not text.startswith(b"["):
            raise OutputError(
                f"{self.writer.subject} must be a list, because step {self.feeds_map!r} maps over it; "
                f"got {type(output).__qualname__}"
            )
        return text

    def __repr__(self) -> str:
        return f"<handler {self.location} ({self.mode})>"
