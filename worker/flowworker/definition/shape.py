"""The shape of a flow: its steps, their types, dependencies and conditions, in order. What code and database agree on.

Options are no part of it: pgflow takes them when the flow is created, and the database's are in force from then on. So
a change of them in the code alone has no effect, and a change in the database is no fault.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic_core import from_json

from flowworker.definition.conditions import PLAIN, Conditions, said
from flowworker.definition.flow import Flow
from flowworker.definition.options import FlowOptions, StepOptions
from flowworker.definition.step import StepKind
from flowworker.option_change import OptionChange

_OPTION_KEYS = {
    "max_attempts": "maxAttempts",
    "base_delay": "baseDelay",
    "timeout": "timeout",
    "start_delay": "startDelay",
}
"""Our names of the options, and pgflow's in JSON."""

CONDITION_NAMES = tuple(one.name for one in fields(Conditions))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """One step."""

    slug: str
    kind: StepKind
    dependencies: tuple[str, ...] = ()
    """Sorted."""
    options: StepOptions = field(default_factory=StepOptions)
    conditions: Conditions = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowShape:
    """One flow; `steps` in the order of their definition."""

    slug: str
    steps: tuple[StepShape, ...]
    options: FlowOptions = field(default_factory=FlowOptions)


def shape_of(flow: Flow) -> FlowShape:
    """The shape a flow has in code."""
    steps = tuple(
        StepShape(
            slug=step.slug,
            kind=step.kind,
            dependencies=tuple(sorted(step.dependencies)),
            options=step.options,
            conditions=step.conditions,
        )
        for step in flow.steps.values()
    )
    return FlowShape(slug=flow.slug, steps=steps, options=flow.options)


def differences(code: FlowShape, database: FlowShape) -> list[str]:
    """What is not alike, one sentence each; empty when the two agree.

    As in pgflow the order of the steps counts, and options do not.
    """
    ours = {step.slug: step for step in code.steps}
    theirs = {step.slug: step for step in database.steps}
    found = [f"step {slug!r} is only in the code" for slug in ours if slug not in theirs]
    found += [f"step {slug!r} is only in the database" for slug in theirs if slug not in ours]
    for slug, step in ours.items():
        if slug in theirs:
            found += _step_differences(step, theirs[slug])
    return found or _order_differences(list(ours), list(theirs))


def option_changes(code: FlowShape, database: FlowShape) -> Sequence[OptionChange]:
    """Options that differ, the flow's own first, then by step; steps that only one side has are left out."""
    theirs = {step.slug: step for step in database.steps}
    return [
        *_option_changes(None, code.options, database.options),
        *(
            change
            for step in code.steps
            if step.slug in theirs
            for change in _option_changes(step.slug, step.options, theirs[step.slug].options)
        ),
    ]


def as_json(shape: FlowShape) -> dict[str, Any]:
    """The shape as `pgflow.ensure_flow_compiled` takes it (core 0.10 and later).

    Conditions are always written out: their absence would be a difference.
    """
    return {"steps": [_step_as_json(step) for step in shape.steps], "options": _options_as_json(shape.options)}


def _step_differences(code: StepShape, database: StepShape) -> list[str]:
    found: list[str] = []
    if code.kind is not database.kind:
        found.append(f"step {code.slug!r} is a {code.kind} step in the code, a {database.kind} step in the database")
    if set(code.dependencies) != set(database.dependencies):
        found.append(
            f"step {code.slug!r} depends on {_listed(code.dependencies)} in the code, "
            f"on {_listed(database.dependencies)} in the database"
        )
    return found + _condition_differences(code, database)


def _condition_differences(code: StepShape, database: StepShape) -> list[str]:
    pairs = ((name, getattr(code.conditions, name), getattr(database.conditions, name)) for name in CONDITION_NAMES)
    return [
        f"step {code.slug!r} has {said(name, ours)} in the code, {said(name, theirs)} in the database"
        for name, ours, theirs in pairs
        if ours != theirs
    ]


def _order_differences(code: Sequence[str], database: Sequence[str]) -> list[str]:
    if code == database:
        return []
    return [f"the steps are in another order: {', '.join(code)} in the code, {', '.join(database)} in the database"]


def _option_changes(
    step: str | None, code: FlowOptions | StepOptions, database: FlowOptions | StepOptions
) -> Iterator[OptionChange]:
    for name in (option.name for option in fields(code)):
        ours, theirs = _option(name, code), _option(name, database)
        if ours != theirs:
            yield OptionChange(step=step, option=name, code=ours, database=theirs)


def _option(name: str, options: FlowOptions | StepOptions) -> int | None:
    """No step inherits a start_delay: without one it is 0."""
    value: int | None = getattr(options, name)
    return value or 0 if name == "start_delay" else value


def _listed(slugs: Sequence[str]) -> str:
    return ", ".join(map(repr, sorted(slugs))) or "nothing"


def _step_as_json(step: StepShape) -> dict[str, Any]:
    return {
        "slug": step.slug,
        "stepType": step.kind.value,
        "dependencies": sorted(step.dependencies),
        "whenUnmet": step.conditions.when_unmet.value,
        "whenExhausted": step.conditions.when_exhausted.value,
        "requiredInputPattern": _pattern_as_json(step.conditions.when),
        "forbiddenInputPattern": _pattern_as_json(step.conditions.unless),
        "options": _options_as_json(step.options),
    }


def _pattern_as_json(pattern: str | None) -> dict[str, Any]:
    return {"defined": False} if pattern is None else {"defined": True, "value": from_json(pattern)}


def _options_as_json(options: FlowOptions | StepOptions) -> dict[str, int]:
    values = {key: getattr(options, name, None) for name, key in _OPTION_KEYS.items()}
    return {key: value for key, value in values.items() if value is not None}
