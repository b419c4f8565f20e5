"""From a user's function to a Handler: what each parameter takes is decided here, once, when the module is imported.

* annotated `TaskContext`: the context;
* of a single step, named like a step that is defined already: that step's output;
* the one other parameter: the run's input, the element of a map task, or the payload of a job.

Everything else is ambiguous, and an error.
"""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, create_model

from flowworker.definition.codec import OutputError, Reader, Writer
from flowworker.definition.handler import Dependencies, Handler, NamedReader, RunMode
from flowworker.definition.place import Caller, HandlerReference
from flowworker.definition.signature import Parameter, Signature, adapter_for, read_signature, underlying
from flowworker.errors import DefinitionError

RunIn: TypeAlias = Literal["thread", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A function that is being made a handler."""

    function: Callable[..., Any]
    title: str
    """For messages: `flow 'site_report', step 'total'`."""
    owner: str
    name: str | None
    run_in: str | None
    caller: Caller

    def error(self, rule: str) -> DefinitionError:
        """A definition error about this handler."""
        return self.caller.place.error(self.title, rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Roles:
    context: Parameter | None
    dependencies: tuple[Parameter, ...]
    other: Parameter | None


def bind_single(
    subject: Subject, *, steps: Collection[str], after: Sequence[str], gaps: Collection[str] = ()
) -> Handler:
    """The handler of a single step.

    Args:
        subject: the function.
        steps: slugs of the steps it may depend on.
        after: slugs it depends on without taking their outputs.
        gaps: slugs of steps whose output may be missing, because they were skipped.

    Raises:
        DefinitionError: the signature is ambiguous, has a type without a JSON form, or needs an output that may be
            missing.
    """
    signature = _signature(subject)
    roles = _roles(subject, signature, steps)
    _refuse_gaps(subject, roles.dependencies, gaps)
    dependent = bool(roles.dependencies or after)
    return _handler(
        subject,
        signature,
        context=roles.context,
        dependencies=_dependencies(subject, roles.dependencies),
        run_input=_named_reader(subject, roles.other, "the run's input"),
        needs_flow_input=dependent and roles.other is not None,
    )


def bind_map(subject: Subject, *, steps: Collection[str]) -> Handler:
    """The handler of a map step: its first parameter takes the element.

    Raises:
        DefinitionError: there is no such parameter, or there are more than it and the context.
    """
    signature = _signature(subject)
    roles = _roles(subject, signature, steps)
    if roles.dependencies:
        name = roles.dependencies[0].name
        raise subject.error(
            f"parameter {name!r} is named like a step, but a task of a map step gets one element and no other output; "
            "rename the parameter if it is the element"
        )
    if roles.other is None or signature.parameters[0] is not roles.other:
        raise subject.error("the first parameter of a map step takes the element")
    return _handler(
        subject, signature, context=roles.context, payload=_named_reader(subject, roles.other, "the element")
    )


def bind_job(subject: Subject) -> Handler:
    """The handler of a queue's jobs.

    Raises:
        DefinitionError: it has more parameters than the payload and the context.
    """
    signature = _signature(subject)
    roles = _roles(subject, signature, ())
    return _handler(
        subject, signature, context=roles.context, payload=_named_reader(subject, roles.other, "the payload")
    )


def _signature(subject: Subject) -> Signature:
    if not callable(subject.function):
        raise subject.error(f"the handler must be a function, got {subject.function!r}")
    if inspect.isclass(subject.function):
        raise subject.error(f"the handler must be a function, {subject.function.__qualname__} is a class")
    plain = underlying(subject.function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise subject.error("the handler is a generator; it must return its output, not yield it")
    signature = read_signature(subject.function, caller=subject.caller, subject=subject.title)
    if signature.parameters and signature.parameters[0].is_receiver:
        raise subject.error(
            f"parameter {signature.parameters[0].name!r} shows a method that belongs to no object; "
            "define a function, or pass the method of an object"
        )
    return signature


def _roles(subject: Subject, signature: Signature, steps: Collection[str]) -> _Roles:
    contexts = [parameter for parameter in signature.parameters if parameter.is_context]
    named = [parameter for parameter in signature.parameters if not parameter.is_context]
    others = [parameter for parameter in named if parameter.name not in steps]
    if len(contexts) > 1:
        raise subject.error(f"parameters {_listed(contexts)} both take the TaskContext")
    if len(others) > 1:
        known = ", ".join(repr(slug) for slug in steps) or "none"
        raise subject.error(
            f"parameters {_listed(others)} are ambiguous: only one may take what is not a step's output "
            f"(steps defined so far: {known})"
        )
    return _Roles(
        context=contexts[0] if contexts else None,
        dependencies=tuple(parameter for parameter in named if parameter.name in steps),
        other=others[0] if others else None,
    )


def _refuse_gaps(subject: Subject, dependencies: Sequence[Parameter], gaps: Collection[str]) -> None:
    for parameter in dependencies:
        if parameter.name in gaps and not (parameter.is_optional or parameter.has_default):
            raise subject.error(
                f"parameter {parameter.name!r} takes the output of a step that may be skipped: make it optional "
                "(`… | None`) or give it a default, or let that step skip with 'skip_cascade'"
            )


def _listed(parameters: Sequence[Parameter]) -> str:
    return " and ".join(repr(parameter.name) for parameter in parameters)


def _handler(
    subject: Subject,
    signature: Signature,
    *,
    context: Parameter | None,
    payload: NamedReader | None = None,
    dependencies: Dependencies | None = None,
    run_input: NamedReader | None = None,
    needs_flow_input: bool = False,
) -> Handler:
    place = subject.caller.place
    mode = _mode(subject, signature)
    output = adapter_for(signature.output, caller=subject.caller, subject=subject.title, what="the output")
    return Handler(
        location=HandlerReference(module=place.module, file=place.file, owner=subject.owner, name=subject.name),
        subject=subject.title,
        function=_callable(subject, mode),
        mode=mode,
        positional=tuple(parameter.name for parameter in signature.parameters if not parameter.keyword_only),
        keywords=tuple(parameter.name for parameter in signature.parameters if parameter.keyword_only),
        context=context.name if context else None,
        payload=payload,
        dependencies=dependencies,
        run_input=run_input,
        needs_flow_input=needs_flow_input,
        writer=Writer(subject=f"output of {subject.title}", adapter=output),
        output=signature.output,
    )


def _mode(subject: Subject, signature: Signature) -> RunMode:
    is_async = inspect.iscoroutinefunction(subject.function)
    gives_coroutine = is_async or signature.is_awaitable or inspect.iscoroutinefunction(underlying(subject.function))
    if gives_coroutine and _is_cached(subject.function):
        raise subject.error("functools.cache would give the same coroutine twice, but it can be awaited only once")
    match subject.run_in:
        case None:
            return RunMode.ASYNC if gives_coroutine else RunMode.THREAD
        case _ if is_async:
            raise subject.error(f"run_in={subject.run_in!r} is for `def` handlers; this one is `async def`")
        case "thread":
            return RunMode.THREAD
        case "process":
            return _process_mode(subject)
        case other:
            raise subject.error(f"run_in must be 'thread' or 'process', got {other!r}")


def _callable(subject: Subject, mode: RunMode) -> Callable[..., Any]:
    """What a worker calls: for `RunMode.ASYNC` always something to await.

    A plain function around a coroutine function (a decorator's, say) gives the coroutine, or has run it already.
    """
    function = subject.function
    if mode is not RunMode.ASYNC or inspect.iscoroutinefunction(function):
        return function

    async def call(*arguments: Any, **keywords: Any) -> Any:
        result = function(*arguments, **keywords)
        return await result if inspect.isawaitable(result) else result

    return call


def _is_cached(function: Any) -> bool:
    while function is not None:
        if hasattr(function, "cache_info"):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _process_mode(subject: Subject) -> RunMode:
    name = getattr(inspect.unwrap(subject.function), "__qualname__", "")
    if "<" in name or not name:
        raise subject.error(
            "run_in='process' needs a function at the top level of a module, "
            f"because the child process imports it again; {name or subject.function!r} is none"
        )
    return RunMode.PROCESS


def _named_reader(subject: Subject, parameter: Parameter | None, role: str) -> NamedReader | None:
    if parameter is None:
        return None
    what = f"parameter {parameter.name!r} ({role})"
    reader = Reader(subject=f"{what} of {subject.title}", adapter=_parameter_adapter(subject, parameter))
    return NamedReader(name=parameter.name, type=parameter.type, reader=reader)


def _dependencies(subject: Subject, parameters: Sequence[Parameter]) -> Dependencies | None:
    if not parameters:
        return None
    for parameter in parameters:
        _parameter_adapter(subject, parameter)
    fields = {f"p{number}": _field(parameter) for number, parameter in enumerate(parameters)}
    model = create_model(f"{subject.owner}_{subject.name}", __config__=ConfigDict(extra="ignore"), **fields)
    return Dependencies(subject=subject.title, model=model, names=tuple(parameter.name for parameter in parameters))


def _field(parameter: Parameter) -> Any:
    match parameter:
        case Parameter(has_default=True):
            return (parameter.type, Field(alias=parameter.name, default=parameter.default))
        case Parameter(is_optional=True):
            return (parameter.type, Field(alias=parameter.name, default=None))
        case _:
            return (parameter.type, Field(alias=parameter.name))


def _parameter_adapter(subject: Subject, parameter: Parameter) -> TypeAdapter[Any]:
    """The adapter of a parameter; its default must be a value that could also have come from the database."""
    what = f"parameter {parameter.name!r}"
    adapter = adapter_for(parameter.type, caller=subject.caller, subject=subject.title, what=what)
    if parameter.has_default:
        try:
            Writer(subject=f"the default of {what}", adapter=adapter).write(parameter.default)
        except OutputError as error:
            raise subject.error(str(error)) from error
    return adapter
