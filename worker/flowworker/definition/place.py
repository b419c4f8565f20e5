"""Where in the user's code something is defined: so that an error can point there, and another process can find it."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from flowworker.errors import DefinitionError

_OWN_MODULES = f"{__package__}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One line of the user's code."""

    module: str
    """Name under which the module can be imported again; `__main__` for a script."""
    file: str
    line: int

    @property
    def at(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    def error(self, subject: str, rule: str) -> DefinitionError:
        """A definition error that says where, about what, and which rule."""
        return DefinitionError(f"{self.at}: {subject}: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The code that called into this package: its place, and the names it can see besides its module's."""

    place: Place
    names: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerReference:
    """Where a handler is defined: in which module, for which flow or queue, under which name."""

    module: str
    """Importable, or `__main__` for a script, which is then found by its file."""
    file: str
    owner: str
    """Slug of the flow, or name of the queue."""
    name: str | None
    """The step's slug or the job's type; None for the only handler of a queue."""

    def __str__(self) -> str:
        return f"{self.module}:{self.owner}.{self.name}" if self.name else f"{self.module}:{self.owner}"


def caller() -> Caller:
    """The nearest caller outside of this package."""
    frame = inspect.currentframe()
    assert frame is not None, "CPython has frames"
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        frame = frame.f_back
    place = Place(module=_importable_name(frame), file=frame.f_code.co_filename, line=frame.f_lineno)
    return Caller(place=place, names=frame.f_locals)


def _importable_name(frame: FrameType) -> str:
    """`python -m package.module` runs as `__main__`, yet a child process can import it by its real name."""
    spec = frame.f_globals.get("__spec__")
    name = frame.f_globals.get("__name__", "__main__")
    return spec.name if name == "__main__" and spec is not None else name
