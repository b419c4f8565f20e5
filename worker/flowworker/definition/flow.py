"""Flows: what a user writes to describe a pgflow flow."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from flowworker.definition.advice import advice_for
from flowworker.definition.binding import RunIn, Subject, bind_map, bind_single
from flowworker.definition.codec import ANYTHING, Reader
from flowworker.definition.conditions import ConsequenceWord, read_conditions
from flowworker.definition.decorators import Elements, MapDecorator, RootMapDecorator, SingleDecorator
from flowworker.definition.handler import Handler
from flowworker.definition.options import FlowOptions, StepOptions, check_options, check_retries
from flowworker.definition.place import caller
from flowworker.definition.run_input import encode_checked, input_reader
from flowworker.definition.slugs import can_notify, flow_slug_problem, step_slug_problem
from flowworker.definition.step import AnyStep, Step, StepKind

P = ParamSpec("P")
Output = TypeVar("Output")
Element = TypeVar("Element")

_STEP_OPTIONS = frozenset(StepOptions.__dataclass_fields__)


class StepSettings(TypedDict, total=False):
    """Options of `@flow.step` and `@flow.map`; what is left out is inherited from the flow."""

    slug: str | None
    """Name of the step; the function's name when left out."""
    max_attempts: int | None
    base_delay: int | None
    """Seconds."""
    timeout: int | None
    """Seconds."""
    start_delay: int | None
    """Seconds between the step becoming ready and its first attempt."""
    run_in: RunIn | None
    """`"process"` runs a `def` handler in a child process; the default is a thread."""
    when: Mapping[str, object] | None
    """The step runs only on an input that contains this (jsonb's `@>`): without dependencies on a run's input, with
    dependencies on their outputs by slug. pgflow's `if`; core 0.14 and newer, as all conditions."""
    unless: Mapping[str, object] | None
    """The step runs only on an input that does not contain this; pgflow's `ifNot`."""
    when_unmet: ConsequenceWord | None
    """What follows where `when` or `unless` keeps the step from running; default `"skip"`."""
    when_exhausted: ConsequenceWord | None
    """What follows where the last attempt of a task fails; default `"fail"`."""


class Flow:
    """A pgflow flow: steps, and which step needs which others' outputs.

    Example:
        >>> greetings = Flow("greetings", max_attempts=3, timeout=30)
        >>> @greetings.step
        ... async def names(count: int) -> list[str]:
        ...     return [f"guest {number}" for number in range(count)]
        >>> @greetings.map(over=names)
        ... async def greet(name: str) -> str:
        ...     return f"Hello, {name}!"
        >>> list(greetings.steps), greet.dependencies
        (['names', 'greet'], ('names',))
    """

    def __init__(
        self,
        slug: str,
        *,
        max_attempts: int | None = None,
        base_delay: int | None = None,
        timeout: int | None = None,
    ) -> None:
        """Define a flow; the defaults are pgflow's.

        Args:
            slug: its name, and that of its queue: at most 47 letters, digits and underscores.
            max_attempts: attempts per task, 1 or more; default 3.
            base_delay: seconds; attempt n + 1 starts `base_delay * 2 ** n` after attempt n failed; default 5.
            timeout: seconds one attempt may take; default 60.

        Raises:
            DefinitionError: the slug or an option is one pgflow or pgmq refuses.
        """
        self.place = caller().place
        given = {"max_attempts": max_attempts, "base_delay": base_delay, "timeout": timeout}
        if problem := flow_slug_problem(slug):
            raise self.place.error(f"flow {slug!r}", f"the slug {problem}")
        check_options(given, place=self.place, subject=f"flow {slug!r}")
        self._slug = slug
        self._options = FlowOptions(**{name: value for name, value in given.items() if value is not None})
        check_retries(
            max_attempts=self._options.max_attempts,
            base_delay=self._options.base_delay,
            place=self.place,
            subject=f"flow {slug!r}",
        )
        self._steps: dict[str, AnyStep] = {}
        self._input_readers: list[Reader] = []

    @property
    def slug(self) -> str:
        """Name of the flow and of its queue."""
        return self._slug

    @property
    def options(self) -> FlowOptions:
        """Options that its steps inherit."""
        return self._options

    @property
    def steps(self) -> Mapping[str, AnyStep]:
        """Steps by slug, in the order of their definition."""
        return MappingProxyType(self._steps)

    @property
    def notify_capable(self) -> bool:
        """Whether pgmq can announce new tasks on every core: before 0.17 it does not for a slug with capitals."""
        return can_notify(self._slug)

    @overload
    def step(
        self, handler: Callable[P, Coroutine[Any, Any, Output]], /
    ) -> Step[P, Coroutine[Any, Any, Output], Output]: ...
    @overload
    def step(self, handler: Callable[P, Output], /) -> Step[P, Output, Output]: ...
    @overload
    def step(self, /, *, after: Sequence[AnyStep] = (), **settings: Unpack[StepSettings]) -> SingleDecorator: ...
    def step(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        after: Sequence[AnyStep] = (),
        **settings: Unpack[StepSettings],
    ) -> Any:
        """Make a function a single step: one task per run, with the outputs its parameters are named after.

        Args:
            handler: the function, when used as plain `@flow.step`.
            after: steps that must be completed first although their outputs are not taken.
            **settings: see `StepSettings`.

        Raises:
            DefinitionError: with file, line, step and the rule that is broken.
        """
        decorator = SingleDecorator(partial(self._add_single, after=after, settings=settings))
        return decorator if handler is None else decorator(handler)

    @overload
    def map(
        self, handler: Callable[Concatenate[Element, P], Coroutine[Any, Any, Output]], /
    ) -> Step[Concatenate[Element, P], Coroutine[Any, Any, Output], list[Output]]: ...
    @overload
    def map(
        self, handler: Callable[Concatenate[Element, P], Output], /
    ) -> Step[Concatenate[Element, P], Output, list[Output]]: ...
    @overload
    def map(
        self, /, *, over: Step[..., Any, Elements[Element]], **settings: Unpack[StepSettings]
    ) -> MapDecorator[Element]: ...
    @overload
    def map(self, /, *, over: None = None, **settings: Unpack[StepSettings]) -> RootMapDecorator: ...
    def map(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        over: AnyStep | None = None,
        **settings: Unpack[StepSettings],
    ) -> Any:
        """Make a function a map step: one task per element of a list; the first parameter takes the element.

        Args:
            handler: the function, when used as plain `@flow.map`.
            over: the step whose output is the list; None: the run's input is.
            **settings: see `StepSettings`.

        Raises:
            DefinitionError: with file, line, step and the rule that is broken.
        """
        decorator = RootMapDecorator(partial(self._add_map, over=over, settings=settings))
        return decorator if handler is None else decorator(handler)

    def decode_input(self, text: bytes) -> Any:
        """Read the input of a run as the first step that takes it does; plain JSON values when none does.

        Raises:
            InputError: it does not fit.
        """
        anything = Reader(subject=f"input of flow {self._slug!r}", adapter=ANYTHING)
        return next(iter(self._input_readers), anything).read(text)

    def encode_input(self, value: object) -> bytes:
        """Write the input of a run as JSON, refusing what a step of this flow would refuse.

        Raises:
            OutputError: the value cannot be written as JSON.
            InputError: a step takes something else.
        """
        return encode_checked(value, subject=f"input of flow {self._slug!r}", readers=self._input_readers)

    def advice(self) -> list[str]:
        """What is legal but will make trouble: with a newer pgflow, in notify mode, or because it looks like a typo."""
        return advice_for(self._slug, self._steps.values())

    def _add_single(self, function: Callable[..., Any], *, after: Sequence[AnyStep], settings: StepSettings) -> AnyStep:
        subject = self._subject(function, settings)
        if not hasattr(after, "__iter__"):
            raise subject.error(f"after= takes a list of steps, got {after!r}")
        explicit = tuple(self._own_step(subject, step, "after").slug for step in after)
        gaps = [step.slug for step in self._steps.values() if step.conditions.leave_gaps]
        handler = bind_single(subject, steps=self._steps.keys(), after=explicit, gaps=gaps)
        taken = handler.dependencies.names if handler.dependencies else ()
        dependencies = tuple(dict.fromkeys((*taken, *explicit)))
        return self._add(subject, StepKind.SINGLE, dependencies, settings, handler)

    def _add_map(self, function: Callable[..., Any], *, over: AnyStep | None, settings: StepSettings) -> AnyStep:
        subject = self._subject(function, settings)
        handler = bind_map(subject, steps=self._steps.keys())
        if over is None:
            return self._add(subject, StepKind.MAP, (), settings, handler)
        source = self._own_step(subject, over, "over")
        if source.kind is StepKind.SINGLE and not source.handler.writer.may_write_array():
            raise subject.error(
                f"it maps over step {source.slug!r}, whose return type {source.handler.output!r} is no list"
            )
        step = self._add(subject, StepKind.MAP, (source.slug,), settings, handler)
        source.fed_to(step.slug)
        return step

    def _subject(self, function: Callable[..., Any], settings: StepSettings) -> Subject:
        slug = settings.get("slug")
        slug = getattr(function, "__name__", "") if slug is None else slug
        nameless = settings.get("slug") is None and not slug.isidentifier()
        subject = Subject(
            function=function,
            title=f"flow {self._slug!r}, step {slug!r}",
            owner=self._slug,
            name=slug,
            run_in=settings.get("run_in"),
            caller=caller(),
        )
        if unknown := settings.keys() - StepSettings.__annotations__.keys():
            raise subject.error(f"unknown option {', '.join(sorted(unknown))}")
        if not callable(function):
            raise subject.error(f"the handler must be a function, got {function!r}")
        if nameless:
            raise subject.error(f"{function!r} has no name that could be the step's; name it with slug=…")
        if problem := step_slug_problem(slug):
            raise subject.error(f"the slug {problem}")
        if slug in self._steps:
            raise subject.error(f"a step of this name is already defined at {self._steps[slug].place.at}")
        self._refuse_late_name(subject, slug)
        return subject

    def _refuse_late_name(self, subject: Subject, slug: str) -> None:
        """A parameter named like this step, defined before it, was taken for the run's input or an element."""
        for step in self._steps.values():
            if slug in step.handler.undirected_names():
                raise subject.error(
                    f"step {step.slug!r}, defined before it at {step.place.at}, has a parameter of this name, "
                    "which took something else; define this step first, or rename the parameter"
                )

    def _own_step(self, subject: Subject, step: object, option: str) -> AnyStep:
        if not isinstance(step, Step):
            raise subject.error(f"{option}= takes a step, got {step!r}")
        found = cast("AnyStep", step)
        if self._steps.get(found.slug) is not found:
            raise subject.error(f"{option}={found!r} is a step of another flow")
        return found

    def _add(
        self, subject: Subject, kind: StepKind, dependencies: tuple[str, ...], settings: StepSettings, handler: Handler
    ) -> AnyStep:
        if handler.undirected_names() & {subject.name}:
            raise subject.error(f"parameter {subject.name!r} is named like its own step, which cannot depend on itself")
        options = {name: value for name, value in settings.items() if name in _STEP_OPTIONS}
        check_options(options, place=subject.caller.place, subject=subject.title)
        conditions = read_conditions(subject, settings, dependencies=dependencies, is_map=kind is StepKind.MAP)
        step: AnyStep = Step(
            flow_slug=self._slug,
            slug=subject.name or "",
            kind=kind,
            dependencies=dependencies,
            options=StepOptions(**cast("dict[str, int | None]", options)),
            conditions=conditions,
            handler=handler,
            function=subject.function,
            place=subject.caller.place,
        )
        self._check_retries(step, subject)
        self._steps[step.slug] = step
        if reader := input_reader(step):
            self._input_readers.append(reader)
        return step

    def _check_retries(self, step: AnyStep, subject: Subject) -> None:
        own, flow = step.options, self._options
        check_retries(
            max_attempts=flow.max_attempts if own.max_attempts is None else own.max_attempts,
            base_delay=flow.base_delay if own.base_delay is None else own.base_delay,
            place=subject.caller.place,
            subject=subject.title,
        )

    def __repr__(self) -> str:
        return f"<flow {self._slug!r} with {len(self._steps)} steps>"
