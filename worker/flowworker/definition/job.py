"""One handler of a queue's jobs: still callable like the function it was made from."""

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from flowworker.definition.handler import Handler
from flowworker.definition.place import Place

P = ParamSpec("P")
Returned_co = TypeVar("Returned_co", covariant=True)


class Job(Generic[P, Returned_co]):
    """What `@queue.job` makes of a function; calling it calls the function."""

    __name__: str

    def __init__(
        self,
        *,
        queue_name: str,
        type_name: str | None,
        handler: Handler,
        function: Callable[P, Returned_co],
        place: Place,
    ) -> None:
        """Built by `Queue`, not by hand."""
        functools.update_wrapper(self, function)
        self.queue_name = queue_name
        self.type_name = type_name
        self.handler = handler
        self.place = place
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Returned_co:
        """Call the handler's function directly, as in a unit test."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        chosen = f" for type {self.type_name!r}" if self.type_name else ""
        return f"<job of queue {self.queue_name!r}{chosen}>"
