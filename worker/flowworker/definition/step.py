"""One step of a flow: still callable like the function it was made from, and known by name to the steps after it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from flowworker.definition.conditions import Conditions
from flowworker.definition.handler import Handler
from flowworker.definition.options import StepOptions
from flowworker.definition.place import Place

P = ParamSpec("P")
Returned_co = TypeVar("Returned_co", covariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class StepKind(StrEnum):
    """pgflow's step types."""

    SINGLE = "single"
    MAP = "map"
    """One task per element of a list."""


class Step(Generic[P, Returned_co, Output_co]):
    """What `@flow.step` and `@flow.map` make of a function; calling it calls the function.

    The type arguments are the function's parameters, what calling it returns (a coroutine for `async def`), and what
    dependants see: the function's result, or for a map step the list of its results.
    """

    __name__: str

    def __init__(
        self,
        *,
        flow_slug: str,
        slug: str,
        kind: StepKind,
        dependencies: tuple[str, ...],
        options: StepOptions,
        conditions: Conditions,
        handler: Handler,
        function: Callable[P, Returned_co],
        place: Place,
    ) -> None:
        """Built by `Flow`, not by hand."""
        functools.update_wrapper(self, function)
        self.flow_slug = flow_slug
        self.slug = slug
        self.kind = kind
        self.dependencies = dependencies
        self.options = options
        self.conditions = conditions
        self.place = place
        self._function = function
        self._handler = handler

    @property
    def handler(self) -> Handler:
        """How its tasks run."""
        return self._handler

    @property
    def feeds_map(self) -> bool:
        """Whether a map step maps over this single step, so that its output must be a JSON array."""
        return self._handler.feeds_map is not None

    def fed_to(self, map_slug: str) -> None:
        """Note that a map step maps over this one; called by `Flow.map`."""
        if self.kind is StepKind.SINGLE and not self.feeds_map:
            self._handler = replace(self._handler, feeds_map=map_slug)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Returned_co:
        """Call the handler's function directly, as in a unit test."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.kind} step {self.slug!r} of flow {self.flow_slug!r}>"


AnyStep: TypeAlias = Step[..., Any, Any]


def decisive_steps(steps: Mapping[str, AnyStep]) -> frozenset[str]:
    """Steps after which a run may fail because the condition of a later one is not met."""
    wanted = {slug for step in steps.values() if step.conditions.fail_runs for slug in step.dependencies}
    found: set[str] = set()
    while wanted:
        slug = wanted.pop()
        found.add(slug)
        wanted.update(set(steps[slug].dependencies) - found)
    return frozenset(found)
