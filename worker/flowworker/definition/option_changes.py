"""Options of a flow that the database has otherwise than the code. Pure.

They are no part of the shape: pgflow takes them when the flow is created, and the database's are in force. So a change
of the code alone has no effect, and a change in the database is no fault.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields

from flowworker.definition.options import FlowOptions, StepOptions
from flowworker.definition.shape import FlowShape
from flowworker.option_change import OptionChange


def option_changes(code: FlowShape, database: FlowShape) -> Sequence[OptionChange]:
    """What differs, the flow's own first, then by step; steps that only one side has are left out."""
    theirs = {step.slug: step for step in database.steps}
    return [
        *_changes(None, code.options, database.options),
        *(
            change
            for step in code.steps
            if step.slug in theirs
            for change in _changes(step.slug, step.options, theirs[step.slug].options)
        ),
    ]


def _changes(
    step: str | None, code: FlowOptions | StepOptions, database: FlowOptions | StepOptions
) -> Iterator[OptionChange]:
    for name in (field.name for field in fields(code)):
        ours, theirs = _value(name, code), _value(name, database)
        if ours != theirs:
            yield OptionChange(step=step, option=name, code=ours, database=theirs)


def _value(name: str, options: FlowOptions | StepOptions) -> int | None:
    """No step inherits a start_delay: without one it is 0."""
    value: int | None = getattr(options, name)
    return value or 0 if name == "start_delay" else value
