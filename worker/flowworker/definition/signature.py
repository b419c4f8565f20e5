"""Reading a handler's signature: its parameters with their types, and its return type.

Annotations may be strings (`from __future__ import annotations`), name types local to the function that holds the
definition, or name `TaskContext` although it is imported for type checkers only.
"""

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Never, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from flowworker.definition.context import TaskContext
from flowworker.definition.place import Caller

_MISSING = inspect.Parameter.empty
_NEVER_JSON = frozenset({"callable", "is-instance", "is-subclass"})
"""Kinds of types that pydantic takes, although no JSON fits them."""

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a handler."""

    name: str
    type: Any
    """Any where the handler has no annotation."""
    keyword_only: bool
    default: Any
    """`inspect.Parameter.empty` when there is none."""

    @property
    def has_default(self) -> bool:
        """Whether the handler can do without a value."""
        return self.default is not _MISSING

    @property
    def is_context(self) -> bool:
        """Whether the parameter takes the task's context."""
        return TaskContext in _alternatives(self.type)

    @property
    def is_receiver(self) -> bool:
        """Whether it is the object of a method, which nothing here could give."""
        return self.name in {"self", "cls"} and self.type is Any

    @property
    def is_optional(self) -> bool:
        """Whether the annotation says that None is a value."""
        return types.NoneType in _alternatives(self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a handler takes and returns."""

    parameters: tuple[Parameter, ...]
    output: Any
    """What a coroutine gives in the end, where the function gives one."""
    is_awaitable: bool
    """The annotation says that it must be awaited."""


def read_signature(function: Callable[..., Any], *, caller: Caller, subject: str) -> Signature:
    """Read and resolve the signature of a handler.

    Raises:
        DefinitionError: no signature, `*args` or `**kwargs`, or an annotation that cannot be resolved.
    """
    plain = underlying(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise caller.place.error(subject, f"Python does not know the parameters of {function!r}") from error
    annotations = _Annotations(
        globals=getattr(plain, "__globals__", {}),
        locals={**caller.names, **_closure(plain)},
        subject=subject,
        caller=caller,
    )
    parameters: list[Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind in _VARIADIC:
            raise caller.place.error(
                subject, f"{parameter} is not possible: a handler's parameters are found by their names, list them"
            )
        parameters.append(
            Parameter(
                name=parameter.name,
                type=annotations.resolve(parameter.name, parameter.annotation),
                keyword_only=parameter.kind is inspect.Parameter.KEYWORD_ONLY,
                default=parameter.default,
            )
        )
    output = annotations.resolve("return", signature.return_annotation)
    is_awaitable = get_origin(output) in {Awaitable, Coroutine}
    if is_awaitable:
        output = get_args(output)[-1]
    output = Any if output in {NoReturn, Never} else output
    return Signature(parameters=tuple(parameters), output=output, is_awaitable=is_awaitable)


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the code: inside of decorators, partials, bound methods and objects with `__call__`."""
    found: Any = inspect.unwrap(function)
    while not inspect.isfunction(found):
        if isinstance(found, functools.partial):
            found = inspect.unwrap(cast("functools.partial[Any]", found).func)
        elif inspect.ismethod(found):
            found = inspect.unwrap(found.__func__)
        elif inspect.isroutine(found) or inspect.isclass(found):
            break
        else:
            found = inspect.unwrap(type(found).__call__)
    return found


def adapter_for(annotation: Any, *, caller: Caller, subject: str, what: str) -> TypeAdapter[Any]:
    """The pydantic adapter of a type.

    Raises:
        DefinitionError: pydantic cannot read this type from JSON, or write it.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise caller.place.error(subject, f"the type of {what} has no JSON form: {reason}") from error
    if adapter.core_schema["type"] in _NEVER_JSON:
        raise caller.place.error(subject, f"the type of {what} has no JSON form: {annotation!r}")
    return adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Annotations:
    globals: Mapping[str, Any]
    locals: Mapping[str, Any]
    caller: Caller
    subject: str

    def resolve(self, name: str, annotation: Any) -> Any:
        if annotation is _MISSING:
            return Any
        # get_type_hints reads `__annotations__` of whatever it is given: one at a time, so that an error has a name.
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            return get_type_hints(holder, dict(self.globals), dict(self.locals), include_extras=True)[name]
        except NameError as error:
            if isinstance(annotation, str) and annotation.rpartition(".")[2] == TaskContext.__name__:
                return TaskContext
            raise self._unresolved(name, annotation, error) from error
        except (TypeError, SyntaxError, AttributeError) as error:
            raise self._unresolved(name, annotation, error) from error

    def _unresolved(self, name: str, annotation: Any, error: Exception) -> Exception:
        what = "the return type" if name == "return" else f"the type of parameter {name!r}"
        return self.caller.place.error(
            self.subject,
            f"{what}, {annotation!r}, cannot be resolved ({error}); "
            "import it where the handler is defined, outside of `if TYPE_CHECKING`",
        )


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or cells is None:
        return {}
    filled: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        with suppress(ValueError):  # a name that has no value yet
            filled[name] = cell.cell_contents
    return filled


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; the annotation itself where it is none."""
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_args(plain) if get_origin(plain) in {Union, types.UnionType} else (plain,)
