"""What `@flow.step(...)`, `@flow.map(...)` and `@queue.job(...)` return: objects that only carry types.

Each takes the user's function, hands it to the flow or queue that made the decorator, and shows type checkers what
it returns. `async def` and `def` need an overload each: what dependants see is the awaited result.
"""

from collections.abc import Callable, Coroutine
from collections.abc import Set as AbstractSet
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from flowworker.definition.job import Job
from flowworker.definition.step import AnyStep, Step

P = ParamSpec("P")
Output = TypeVar("Output")
Element = TypeVar("Element")
Element_co = TypeVar("Element_co", covariant=True)

AddStep: TypeAlias = Callable[[Callable[..., Any]], AnyStep]
AddJob: TypeAlias = Callable[[Callable[..., Any]], Job[..., Any]]


class _Array(Protocol[Element_co]):
    """list, tuple and Sequence, but neither str and bytes (their `__contains__` differs) nor dict (no `count`)."""

    def __contains__(self, value: object, /) -> bool: ...
    def __getitem__(self, index: int, /) -> Element_co: ...
    def count(self, value: Any, /) -> int: ...


Elements: TypeAlias = _Array[Element] | AbstractSet[Element]
"""What a step returns that a map step may map over."""


class SingleDecorator:
    """What `@flow.step(...)` returns."""

    def __init__(self, add: AddStep) -> None:
        """Take what adds the function to its flow."""
        self._add = add

    @overload
    def __call__(
        self, handler: Callable[P, Coroutine[Any, Any, Output]], /
    ) -> Step[P, Coroutine[Any, Any, Output], Output]: ...
    @overload
    def __call__(self, handler: Callable[P, Output], /) -> Step[P, Output, Output]: ...
    def __call__(self, handler: Callable[..., Any], /) -> AnyStep:
        """Add the function to the flow."""
        return self._add(handler)


class MapDecorator(Generic[Element]):
    """What `@flow.map(over=…)` returns: takes functions whose first parameter accepts the element."""

    def __init__(self, add: AddStep) -> None:
        """Take what adds the function to its flow."""
        self._add = add

    @overload
    def __call__(
        self, handler: Callable[Concatenate[Element, P], Coroutine[Any, Any, Output]], /
    ) -> Step[Concatenate[Element, P], Coroutine[Any, Any, Output], list[Output]]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Element, P], Output], /
    ) -> Step[Concatenate[Element, P], Output, list[Output]]: ...
    def __call__(self, handler: Callable[..., Any], /) -> AnyStep:
        """Add the function to the flow."""
        return self._add(handler)


class RootMapDecorator:
    """What `@flow.map()` returns: the run's input is the list, of whatever the handler's first parameter takes."""

    def __init__(self, add: AddStep) -> None:
        """Take what adds the function to its flow."""
        self._add = add

    @overload
    def __call__(
        self, handler: Callable[Concatenate[Element, P], Coroutine[Any, Any, Output]], /
    ) -> Step[Concatenate[Element, P], Coroutine[Any, Any, Output], list[Output]]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[Element, P], Output], /
    ) -> Step[Concatenate[Element, P], Output, list[Output]]: ...
    def __call__(self, handler: Callable[..., Any], /) -> AnyStep:
        """Add the function to the flow."""
        return self._add(handler)


class JobDecorator:
    """What `@queue.job(...)` returns."""

    def __init__(self, add: AddJob) -> None:
        """Take what adds the function to its queue."""
        self._add = add

    def __call__(self, handler: Callable[P, Output], /) -> Job[P, Output]:
        """Add the function to the queue."""
        return self._add(handler)
