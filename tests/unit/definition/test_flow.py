"""What a flow is made of, and which mistakes are found when its module is imported."""

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from flowworker import DefinitionError, Flow, Queue, TaskContext
from flowworker.definition.handler import RunMode
from flowworker.definition.options import FlowOptions, StepOptions
from flowworker.definition.step import AnyStep, StepKind

if TYPE_CHECKING:
    from decimal import Decimal


class Site(BaseModel):
    urls: list[str]


class Unreadable:
    """A type without a JSON form."""


def report() -> Flow:
    flow = Flow("report")

    @flow.step
    async def urls(site: Site) -> list[str]:
        return site.urls

    @flow.map(over=urls)
    async def fetch(url: str, ctx: TaskContext) -> int:
        return len(url)

    @flow.step
    async def total(fetch: list[int]) -> int:
        return sum(fetch)

    return flow


def test_a_flow_lists_its_steps_in_the_order_of_their_definition() -> None:
    flow = report()

    assert [(step.slug, step.kind, step.dependencies) for step in flow.steps.values()] == [
        ("urls", StepKind.SINGLE, ()),
        ("fetch", StepKind.MAP, ("urls",)),
        ("total", StepKind.SINGLE, ("fetch",)),
    ]


def test_a_step_knows_whether_a_map_step_needs_its_output_to_be_a_list() -> None:
    assert [step.feeds_map for step in report().steps.values()] == [True, False, False]


async def test_a_step_is_called_like_the_function_it_was_made_from() -> None:
    flow = Flow("direct")

    @flow.step
    async def names(count: int) -> list[str]:
        """Some names."""
        return ["name"] * count

    assert await names(2) == ["name", "name"]
    assert (names.__name__, names.__doc__) == ("names", "Some names.")
    assert repr(names) == "<single step 'names' of flow 'direct'>"
    assert repr(flow) == "<flow 'direct' with 1 steps>"


def test_options_left_out_are_pgflows_for_a_flow_and_inherited_for_a_step() -> None:
    flow = Flow("options")

    @flow.step
    def plain() -> None: ...

    @flow.step(max_attempts=1, base_delay=0, timeout=2, start_delay=3)
    def tuned() -> None: ...

    assert flow.options == FlowOptions(max_attempts=3, base_delay=5, timeout=60)
    assert Flow("tuned", max_attempts=1, base_delay=0, timeout=1).options == FlowOptions(
        max_attempts=1, base_delay=0, timeout=1
    )
    assert plain.options == StepOptions()
    assert tuned.options == StepOptions(max_attempts=1, base_delay=0, timeout=2, start_delay=3)


def test_handlers_run_on_the_loop_in_a_thread_or_in_a_process() -> None:
    flow = Flow("modes")

    @flow.step
    async def on_the_loop() -> None: ...

    @flow.step
    def in_a_thread() -> None: ...

    @flow.step(run_in="thread")
    def in_a_thread_by_name() -> None: ...

    child = flow.step(run_in="process")(module_level)

    modes = [step.handler.mode for step in (on_the_loop, in_a_thread, in_a_thread_by_name, child)]
    assert modes == [RunMode.ASYNC, RunMode.THREAD, RunMode.THREAD, RunMode.PROCESS]


def test_a_slug_may_differ_from_the_functions_name() -> None:
    flow = Flow("renamed")

    @flow.step(slug="names")
    def find_names() -> list[str]:
        return []

    @flow.step
    def count(names: list[str]) -> int:
        return len(names)

    assert list(flow.steps) == ["names", "count"]
    assert count.dependencies == ("names",)


def test_after_orders_steps_without_taking_outputs() -> None:
    flow = Flow("ordered")

    @flow.step
    def first() -> int:
        return 1

    @flow.step
    def second() -> None: ...

    @flow.step(after=[second, first])
    def third(first: int, order: Site) -> None: ...

    assert third.dependencies == ("first", "second")
    assert third.handler.needs_flow_input


def test_a_function_can_be_a_step_of_two_flows() -> None:
    flows = [Flow("one"), Flow("two")]

    steps = [flow.step(module_level) for flow in flows]

    assert [step.flow_slug for step in steps] == ["one", "two"]


def test_a_decorated_function_keeps_its_real_signature() -> None:
    flow = Flow("decorated")

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    @flow.step
    @logged
    async def measured(site: Site) -> int:
        return len(site.urls)

    assert measured.handler.mode is RunMode.ASYNC
    assert measured.handler.decode(b"{}", b'{"urls": []}').values == {"site": Site(urls=[])}


def test_types_may_be_local_to_the_function_that_defines_the_flow() -> None:
    class Order(BaseModel):
        price: int

    flow = Flow("local")

    @flow.step
    def pay(order: "Order", ctx: "TaskContext | None" = None) -> "list[Order]":
        return [order]

    assert pay.handler.decode(b"{}", b'{"price": 3}').values == {"order": Order(price=3)}
    assert pay.handler.wants_context


def test_an_annotation_imported_for_type_checkers_only_is_refused_by_name() -> None:
    flow = Flow("hidden")

    def pay(price: "Decimal") -> None: ...

    with pytest.raises(DefinitionError, match=r"type of parameter 'price', 'Decimal', cannot be resolved"):
        flow.step(pay)


def test_an_error_names_file_line_flow_step_and_rule() -> None:
    flow = report()

    with pytest.raises(DefinitionError) as caught:

        @flow.step
        def total() -> None: ...

    line = test_an_error_names_file_line_flow_step_and_rule.__code__.co_firstlineno + 5
    assert re.fullmatch(
        rf"{re.escape(__file__)}:{line}: flow 'report', step 'total': "
        rf"a step of this name is already defined at {re.escape(__file__)}:\d+",
        str(caught.value),
    )


def module_level(count: int) -> list[int]:
    return [count]


def variadic(*names: str) -> None: ...


def keywords(**names: str) -> None: ...


def two_inputs(site: Site, order: int) -> None: ...


def two_contexts(ctx: TaskContext, other: TaskContext) -> None: ...


def unreadable(site: Unreadable) -> None: ...


def unwritable() -> Unreadable:
    return Unreadable()


def unwritable_default(urls: Any = float("nan")) -> None: ...


def wrong_default(urls: Any = "none") -> None: ...


wrong_default.__annotations__["urls"] = list[str]


def own_name(own_name: int) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


async def coroutine() -> None: ...


def run() -> None: ...


def 名() -> None: ...  # noqa: N802


def unresolved(site: Any) -> None: ...


unresolved.__annotations__["site"] = "Nowhere"


WRONG_STEPS: list[tuple[Any, dict[str, Any], str]] = [
    (variadic, {}, r"\*names: str is not possible"),
    (keywords, {}, r"\*\*names: str is not possible"),
    (two_inputs, {}, r"parameters 'site' and 'order' are ambiguous.*steps defined so far: 'urls', 'fetch', 'total'"),
    (two_contexts, {}, r"parameters 'ctx' and 'other' both take the TaskContext"),
    (unreadable, {}, r"the type of parameter 'site' has no JSON form: .*Unreadable"),
    (unwritable, {}, r"the type of the output has no JSON form: .*Unreadable"),
    (unwritable_default, {}, r"the default of parameter 'urls' is nan, which JSON does not have"),
    (wrong_default, {}, r"the default of parameter 'urls': Input should be a valid list"),
    (own_name, {}, r"parameter 'own_name' is named like its own step"),
    (generator, {}, r"the handler is a generator"),
    (async_generator, {}, r"the handler is a generator"),
    (unresolved, {}, r"type of parameter 'site', 'Nowhere', cannot be resolved"),
    (coroutine, {"run_in": "process"}, r"run_in='process' is for `def` handlers"),
    (coroutine, {"run_in": "thread"}, r"run_in='thread' is for `def` handlers"),
    (module_level, {"run_in": "fiber"}, r"run_in must be 'thread' or 'process', got 'fiber'"),
    (lambda: None, {"run_in": "process", "slug": "f"}, r"needs a function at the top level of a module"),
    (functools.partial(module_level, 1), {}, r"has no name that could be the step"),
    (run, {}, r"the slug is a reserved word \(run\)"),
    (名, {}, r"the slug must be letters, digits and underscores"),
    (module_level, {"slug": "x" * 129}, r"has 129 characters, at most 128"),
    (module_level, {"slug": ""}, r"the slug is empty"),
    (module_level, {"slug": "urls"}, r"already defined at"),
    (module_level, {"max_attempts": 0}, r"max_attempts must be between 1 and 2147483647, got 0"),
    (module_level, {"base_delay": -1}, r"base_delay must be between 0"),
    (module_level, {"timeout": 0}, r"timeout must be between 1"),
    (module_level, {"timeout": 2**31}, r"timeout must be between 1"),
    (module_level, {"start_delay": -1}, r"start_delay must be between 0"),
    (module_level, {"timeout": 1.5}, r"timeout must be a whole number, got 1.5"),
    (module_level, {"max_attempts": True}, r"max_attempts must be a whole number, got True"),
    (module_level, {"max_attempt": 1}, r"unknown option max_attempt"),
    (module_level, {"after": ["urls"]}, r"after= takes a step, got 'urls'"),
    (module_level, {"after": [report().steps["urls"]]}, r"is a step of another flow"),
    (3, {"slug": "number"}, r"the handler must be a function, got 3"),
]


@pytest.mark.parametrize(("handler", "options", "rule"), WRONG_STEPS)
def test_a_wrong_step_is_refused_with_the_rule_it_breaks(
    handler: Callable[..., Any], options: dict[str, Any], rule: str
) -> None:
    flow = report()

    with pytest.raises(DefinitionError, match=rf"test_flow\.py:\d+: flow 'report', step '\w*': .*{rule}"):
        flow.step(**options)(handler)

    assert len(flow.steps) == 3


def takes_a_string(name: str) -> None: ...


def takes_the_context_first(ctx: TaskContext, name: str) -> None: ...


def takes_nothing() -> None: ...


def takes_an_output_too(name: str, urls: list[str]) -> None: ...


WRONG_MAPS: list[tuple[Callable[..., Any], str, str]] = [
    (takes_the_context_first, "urls", "the first parameter of a map step takes the element"),
    (takes_nothing, "urls", "the first parameter of a map step takes the element"),
    (takes_an_output_too, "urls", "parameter 'urls' is named like a step, but a task of a map step gets one element"),
    (two_inputs, "urls", "parameters 'site' and 'order' are ambiguous"),
    (takes_a_string, "total", "maps over step 'total', whose return type <class 'int'> is no list"),
]


@pytest.mark.parametrize(("handler", "over", "rule"), WRONG_MAPS)
def test_a_wrong_map_step_is_refused_with_the_rule_it_breaks(handler: Callable[..., Any], over: str, rule: str) -> None:
    flow = report()

    with pytest.raises(DefinitionError, match=rule):
        flow.map(over=flow.steps[over])(handler)

    assert not flow.steps["total"].feeds_map


@pytest.mark.parametrize("over", ["urls", report().steps["urls"]], ids=["a slug", "another flow's step"])
def test_a_map_step_goes_over_a_step_of_its_own_flow(over: Any) -> None:
    with pytest.raises(DefinitionError, match=r"over=.* (takes a step|is a step of another flow)"):
        report().map(over=over)(takes_a_string)


@pytest.mark.parametrize(
    ("output", "possible"),
    [
        (list[int], True),
        (tuple[int, ...], True),
        (set[str], True),
        (Any, True),
        (object, True),
        (list[int] | list[str], True),
        (Annotated[list[int], Field(max_length=3)], True),
        (str, False),
        (dict[str, int], False),
        (list[int] | None, False),
        (None, False),
        (Site, False),
        (Literal["a"], False),
    ],
)
def test_a_map_needs_a_step_whose_return_type_is_a_list_or_unknown(output: Any, possible: bool) -> None:
    flow = Flow("outputs")

    def source() -> None: ...

    source.__annotations__["return"] = output
    step: AnyStep = flow.step(source)

    if possible:
        assert flow.map(over=step)(takes_a_string).dependencies == ("source",)
    else:
        with pytest.raises(DefinitionError, match="is no list"):
            flow.map(over=step)(takes_a_string)


def test_a_step_named_like_an_earlier_steps_input_is_refused() -> None:
    flow = report()

    def site() -> Site:
        return Site(urls=[])

    with pytest.raises(DefinitionError, match=r"step 'urls', defined before it at .*, has a parameter of this name"):
        flow.step(site)


@pytest.mark.parametrize(
    ("slug", "rule"),
    [
        ("", "is empty"),
        ("run", "is a reserved word"),
        ("a-b", "must be letters"),
        ("1st", "must be letters"),
        ("line\n", "must be letters"),
        ("x" * 48, "has 48 characters, but a queue's name has at most 47"),
    ],
)
def test_a_wrong_flow_slug_is_refused(slug: str, rule: str) -> None:
    with pytest.raises(DefinitionError, match=rf"test_flow\.py:\d+: flow .*: the slug {rule}"):
        Flow(slug)


@pytest.mark.parametrize("option", ["max_attempts", "base_delay", "timeout"])
@pytest.mark.parametrize("workload", [Flow, Queue])
def test_a_wrong_option_of_a_flow_or_queue_is_refused(workload: Callable[..., Any], option: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{option} must be between"):
        workload("name", **{option: -1})


def test_advice_names_what_a_newer_pgflow_or_notify_mode_will_not_take() -> None:
    flow = Flow("Weekly__report")

    @flow.step
    def names(count: int) -> list[str]:
        return []

    @flow.step(slug="Names")
    def upper() -> None: ...

    @flow.step(slug="_" + "x" * 60)
    def typo(name: list[str]) -> None: ...

    advice = "\n".join(flow.advice())
    assert not flow.notify_capable
    assert "slug 'Weekly__report': pgflow 0.17 refuses a double underscore" in advice
    assert "pgmq never notifies for a queue with capitals" in advice
    assert "steps 'names' and 'Names'" in advice
    assert "leading or trailing underscore" in advice
    assert "parameter 'name' takes the run's input; if step 'names' was meant, rename it" in advice


def test_a_flow_without_peculiarities_gets_no_advice() -> None:
    assert report().advice() == []
    assert report().notify_capable


@pytest.mark.parametrize(("base_delay", "most"), [(1, 31), (5, 29), (2**31 - 1, 1)])
def test_more_attempts_than_pgflow_can_compute_a_delay_for_are_refused(base_delay: int, most: int) -> None:
    """It computes base_delay * 2 ** attempt as an integer, and the attempt after which it cannot is the last one."""
    flow = Flow("patient", max_attempts=most, base_delay=base_delay)
    with pytest.raises(DefinitionError, match=f"max_attempts must be at most {most} with base_delay {base_delay}"):
        Flow("patient", max_attempts=most + 1, base_delay=base_delay)

    async def step(_: int) -> None: ...

    with pytest.raises(DefinitionError, match=f"must be at most {most} with base_delay {base_delay}"):
        flow.step(max_attempts=most + 1)(step)
    flow.step(max_attempts=1000, base_delay=0)(step)
