"""How a handler reads its arguments from JSON, is called, and writes its output."""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from flowworker import Flow, InputError, OutputError, Queue, TaskContext
from flowworker.definition.context import Message
from flowworker.definition.handler import Handler
from flowworker.definition.step import AnyStep


class Site(BaseModel):
    urls: list[str]


class Renamed(BaseModel):
    user_name: str = Field(alias="userName")


class Measurement(BaseModel):
    value: float
    note: str | None = None


class AsText(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    value: float
    note: str | None = None


class Faulty(BaseModel):
    value: int

    @field_serializer("value")
    def fail(self, value: int) -> int:
        raise ValueError("no luck")


@dataclass
class Point:
    x: int
    y: float


def context() -> TaskContext:
    async def load() -> Any:
        return None

    return TaskContext(
        run_id=UUID(int=1),
        step_slug="step",
        task_index=0,
        attempt=2,
        max_attempts=3,
        deadline=0.0,
        cancelled=asyncio.Event(),
        message=Message(msg_id=1, read_count=1, enqueued_at=datetime(2026, 1, 1, tzinfo=UTC), headers={}),
        logger=logging.getLogger("test"),
        idempotency_key="key",
        load_flow_input=load,
    )


def step_of(function: Callable[..., Any], *dependencies: str) -> Handler:
    """The handler of a step whose flow has steps with the given slugs before it."""
    flow = Flow("flow")
    for slug in dependencies:
        flow.step(slug=slug)(lambda: None)
    return flow.step(slug="step")(function).handler


def element_of(function: Callable[..., Any]) -> Handler:
    return Flow("flow").map(slug="step")(function).handler


def test_a_root_step_gets_the_runs_input() -> None:
    def step(site: Site) -> None: ...

    handler = step_of(step)
    assert handler.decode(b"{}", b'{"urls": ["a"]}').values == {"site": Site(urls=["a"])}
    assert not handler.needs_flow_input


def test_a_dependent_step_gets_outputs_by_name_and_the_runs_input() -> None:
    def step(site: Site, names: list[str], count: int) -> None: ...

    handler = step_of(step, "names", "count", "unused")
    arguments = handler.decode(b'{"names": ["a"], "count": 2, "unused": 1}', b'{"urls": []}')
    assert arguments.values == {"site": Site(urls=[]), "names": ["a"], "count": 2}
    assert handler.needs_flow_input


def test_a_step_without_parameters_does_not_look_at_its_input() -> None:
    def step() -> int:
        return 3

    handler = step_of(step)
    assert handler.call(handler.decode(b"not json", None), context()) == 3


def test_a_map_task_gets_its_element_and_null_is_one() -> None:
    def step(name: str | None) -> None: ...

    assert element_of(step).decode(b"null", None).values == {"name": None}
    assert element_of(step).decode(b'"a"', None).values == {"name": "a"}


def test_parameters_without_annotation_take_any_json() -> None:
    def step(names, site) -> None: ...  # pyright: ignore

    arguments = step_of(step, "names").decode(b'{"names": [1, null]}', b'{"a": {"b": 2.5}}')  # pyright: ignore
    assert arguments.values == {"names": [1, None], "site": {"a": {"b": 2.5}}}


def test_positional_keyword_and_context_parameters_are_all_filled() -> None:
    def step(names: list[str], /, ctx: TaskContext, *, site: Site) -> tuple[Any, ...]:
        return names, ctx.attempt, site

    handler = step_of(step, "names")
    arguments = handler.decode(b'{"names": ["a"]}', b'{"urls": []}')
    assert handler.wants_context
    assert handler.call(arguments, context()) == (["a"], 2, Site(urls=[]))


async def test_an_async_handler_is_called_to_a_coroutine() -> None:
    async def step(site: Site) -> list[str]:
        return site.urls

    handler = step_of(step)
    assert await handler.call(handler.decode(b"{}", b'{"urls": ["a"]}'), context()) == ["a"]


@pytest.mark.parametrize("slug", ["model_config", "json", "copy", "_hidden", "p0", "schema", "class_"])
def test_any_slug_can_be_a_dependency(slug: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def step({slug}: int) -> int: return {slug}", namespace)

    assert step_of(namespace["step"], slug).decode(f'{{"{slug}": 3}}'.encode(), None).values == {slug: 3}


def test_a_skipped_dependency_is_the_default_or_none_where_the_parameter_allows_it() -> None:
    def step(names: list[str] | None, count: int = 7) -> None: ...

    assert step_of(step, "names", "count").decode(b"{}", None).values == {"names": None, "count": 7}


def test_a_mutable_default_is_not_shared_between_tasks() -> None:
    def step(names: list[str] = []) -> None: ...  # noqa: B006

    handler = step_of(step, "names")
    handler.decode(b"{}", None).values["names"].append("a")
    assert handler.decode(b"{}", None).values == {"names": []}


def test_a_skipped_dependency_that_is_needed_is_named() -> None:
    def step(names: list[str]) -> None: ...

    with pytest.raises(InputError, match=r"flow 'flow', step 'step': no output of step 'names', it was skipped"):
        step_of(step, "names").decode(b"{}", None)


def two_outputs(names: list[str], point: Point) -> None: ...


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"names": ["a", 3], "point": {"x": 1, "y": 2}}', r"names\[1\]: Input should be a valid string \(got int\)"),
        (b'{"names": [], "point": {"x": "b", "y": 2}}', r"point.x: Input should be a valid integer.* \(got str\)"),
        (b'{"names": [], "point": {"x": 1}}', r"point.y: Field required"),
        (b'{"names": [1, 2, 3, 4, 5], "point": {"x": 1, "y": 2}}', r"\(and 2 more\)"),
        (b"[]", r"Input should be an object"),
        (b"{", r"Invalid JSON"),
    ],
)
def test_a_dependency_output_of_another_type_is_named_with_field_and_type(text: bytes, message: str) -> None:
    handler = step_of(two_outputs, "names", "point")

    with pytest.raises(InputError, match=rf"^input of flow 'flow', step 'step': .*{message}"):
        handler.decode(text, None)


def test_a_wrong_run_input_element_or_payload_names_its_parameter() -> None:
    def step(site: Site) -> None: ...

    with pytest.raises(InputError, match=r"'site' \(the run's input\) of flow 'flow'.*: urls: Field required"):
        step_of(step).decode(b"{}", b"{}")
    with pytest.raises(InputError, match=r"parameter 'site' \(the run's input\).* was not loaded"):
        step_of(step).decode(b"{}", None)
    with pytest.raises(InputError, match=r"parameter 'site' \(the element\) of flow 'flow', step 'step'"):
        element_of(step).decode(b"[]", None)
    with pytest.raises(InputError, match=r"parameter 'site' \(the payload\) of queue 'mail'"):
        Queue("mail").job(step).handler.decode(b"[]", None)


def test_a_long_wrong_value_is_cut() -> None:
    def step(count: int) -> None: ...

    with pytest.raises(InputError) as caught:
        step_of(step).decode(b"{}", b'"' + b"x" * 5000 + b'"')
    assert len(str(caught.value)) < 300


ANYTHING: list[tuple[object, bytes]] = [
    (None, b"null"),
    (False, b"false"),
    (0, b"0"),
    ("", b'""'),
    ([], b"[]"),
    ({}, b"{}"),
    (10**30, b"1" + b"0" * 30),
    ("\\u0000", rb'"\\u0000"'),
    ([None, 10**5000], b"[null,1" + b"0" * 5000 + b"]"),
    ("NaN", b'"NaN"'),
    (["null", None], b'["null",null]'),
    ({1: "a"}, b'{"1":"a"}'),
    ({"when": datetime(2026, 1, 2, tzinfo=UTC)}, b'{"when":"2026-01-02T00:00:00Z"}'),
    (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    (Decimal("1.10"), b'"1.10"'),
    (Path("/a"), b'"/a"'),
    (Point(1, 2.5), b'{"x":1,"y":2.5}'),
    ([Site(urls=["a"])], b'[{"urls":["a"]}]'),
    (Renamed(userName="ann"), b'{"userName":"ann"}'),
    (AsText(value=math.nan), b'{"value":"NaN","note":null}'),
    ({"text": "é \U0001f600"}, '{"text":"é \U0001f600"}'.encode()),
]


@pytest.mark.parametrize(("value", "written"), ANYTHING, ids=range(len(ANYTHING)))
def test_output_without_annotation_is_written_faithfully(value: object, written: bytes) -> None:
    def step(): ...

    assert step_of(step).encode(value) == written


cycle: list[Any] = []
cycle.append(cycle)
deep: list[Any] = []
for _ in range(5000):
    deep = [deep]

REFUSED: list[tuple[object, str]] = [
    (math.nan, r"output of flow 'flow', step 'step' is nan, which JSON does not have"),
    ({"a": [1.0, math.inf]}, r"at a\[1\] is inf, which JSON does not have"),
    ([None, Measurement(value=-math.inf)], r"at \[1\].value is -inf, which JSON does not have"),
    ({"a": [1, "x\0"]}, r"at a\[1\] contains U\+0000"),
    ({"a": {"b\0": 1}}, r"at a.b\\u0000 contains U\+0000"),
    ([{"a": "\ud800"}], r"at \[0\].a contains half of a surrogate pair"),
    ([{"\udc00": 1}], r"at \[0\] has a key with half of a surrogate pair"),
    ({"a": [object()]}, r"at a\[0\] is a object, which cannot be written as JSON"),
    ({"a": b"\xff"}, r"at a is a bytes, which cannot be written as JSON"),
    (Faulty(value=1), r"cannot be written as JSON.*no luck"),
    (cycle, r"cannot be written as JSON.*[Cc]ircular"),
    (deep, r"cannot be written as JSON.*depth"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_jsonb_cannot_hold_is_refused_with_its_place(value: object, message: str) -> None:
    def step() -> Any: ...

    with pytest.raises(OutputError, match=message):
        step_of(step).encode(value)


def returns_points() -> list[Point]:
    return []


def test_an_annotated_output_is_written_by_its_type() -> None:
    handler = step_of(returns_points)

    assert handler.encode([Point(1, 2)]) == b'[{"x":1,"y":2.0}]'
    assert handler.encode(({"x": 1, "y": 2},)) == b'[{"x":1,"y":2.0}]'


def test_an_output_of_another_type_than_annotated_is_refused_with_its_place() -> None:
    with pytest.raises(OutputError, match=r"output of .* 'step': \[1\].x: .*valid integer.* \(got str\)"):
        step_of(returns_points).encode([Point(1, 2), {"x": "b", "y": 2}])
    with pytest.raises(OutputError, match=r"\(got int\)"):
        step_of(lambda_returning_none).encode(3)


def lambda_returning_none() -> None: ...


def test_an_annotated_float_that_is_not_finite_is_refused_not_nulled() -> None:
    def step() -> dict[str, Measurement]: ...  # pyright: ignore[reportReturnType]

    handler = step_of(step)
    assert handler.encode({"a": Measurement(value=1)}) == b'{"a":{"value":1.0,"note":null}}'
    with pytest.raises(OutputError, match=r"at a.value is nan"):
        handler.encode({"a": Measurement(value=math.nan)})


def test_the_output_of_a_step_that_feeds_a_map_must_be_a_list() -> None:
    flow = Flow("flow")

    def source(): ...

    def each(element: int) -> None: ...

    step: AnyStep = flow.step(source)
    assert step.handler.encode({"a": 1}) == b'{"a":1}'
    flow.map(over=step)(each)

    assert step.handler.encode((1, 2)) == b"[1,2]"
    with pytest.raises(OutputError, match=r"must be a list, because step 'each' maps over it; got dict"):
        step.handler.encode({"a": 1})


def test_a_map_over_a_map_leaves_the_elements_alone() -> None:
    flow = Flow("flow")

    def double(element: int) -> int:
        return element * 2

    first = flow.map(double)
    flow.map(over=first, slug="again")(double)

    assert first.handler.encode(4) == b"4"
    assert not first.feeds_map


def test_a_handler_is_named_by_module_flow_and_step() -> None:
    handler = step_of(returns_points)

    assert handler.reference == f"{__name__}:flow.step"
    assert repr(handler) == f"<handler {__name__}:flow.step (thread)>"
