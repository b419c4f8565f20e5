"""Laws that hold for flows of every shape."""

import re
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flowworker import Flow
from flowworker.definition.graph import levels, mermaid, tree
from flowworker.definition.shape import as_json, differences, shape_of
from flowworker.definition.step import AnyStep, StepKind

Plan = Sequence[tuple[bool, frozenset[int], frozenset[int]]]
"""Per step: whether it is a map, which earlier steps its parameters name, and which it only comes after."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    made: list[tuple[bool, frozenset[int], frozenset[int]]] = []
    for number in range(draw(st.integers(0, 8))):
        earlier = st.frozensets(st.integers(0, number - 1), max_size=4) if number else st.just(frozenset[int]())
        made.append((draw(st.booleans()), draw(earlier), draw(earlier)))
    return made


def build(plan: Plan) -> Flow:
    """The flow of a plan; step n is called sn, and a map goes over the first step it is given."""
    flow = Flow("made")
    steps: list[AnyStep] = []
    for number, (is_map, named, after) in enumerate(plan):
        slug = f"s{number}"
        if is_map:
            over = steps[min(named)] if named else None
            steps.append(flow.map(over=over, slug=slug)(lambda element: element))  # pyright: ignore
        else:
            names = ", ".join(f"s{dependency}" for dependency in sorted(named))
            function: Any = eval(f"lambda {names}: None")
            steps.append(flow.step(after=[steps[index] for index in sorted(after)], slug=slug)(function))
    return flow


def dependencies_of(plan: Plan, number: int) -> set[str]:
    is_map, named, after = plan[number]
    chosen = set(sorted(named)[:1]) if is_map else named | after
    return {f"s{dependency}" for dependency in chosen}


@given(plans())
def test_dependencies_are_the_named_parameters_and_those_of_after(plan: Plan) -> None:
    steps = list(build(plan).steps.values())

    assert [set(step.dependencies) for step in steps] == [dependencies_of(plan, number) for number in range(len(plan))]
    assert all(len(set(step.dependencies)) == len(step.dependencies) for step in steps)


@given(plans())
def test_every_step_comes_after_its_dependencies(plan: Plan) -> None:
    flow = build(plan)
    depth = levels(shape_of(flow))
    order = list(flow.steps)

    assert set(depth) == set(order)
    for step in flow.steps.values():
        assert all(order.index(dependency) < order.index(step.slug) for dependency in step.dependencies)
        assert depth[step.slug] == max((depth[dependency] + 1 for dependency in step.dependencies), default=0)


@given(plans())
def test_exactly_the_single_steps_that_are_mapped_over_must_return_a_list(plan: Plan) -> None:
    flow = build(plan)
    mapped = {step.dependencies[0] for step in flow.steps.values() if step.kind is StepKind.MAP and step.dependencies}

    for step in flow.steps.values():
        assert step.feeds_map == (step.slug in mapped and step.kind is StepKind.SINGLE)


@given(plans())
def test_a_shape_never_differs_from_itself_and_always_from_one_with_a_step_less(plan: Plan) -> None:
    shape = shape_of(build(plan))

    assert differences(shape, shape_of(build(plan))) == []
    if plan:
        shorter = shape_of(build(plan[:-1]))
        assert differences(shape, shorter) == [f"step 's{len(plan) - 1}' is only in the code"]
        assert differences(shorter, shape) == [f"step 's{len(plan) - 1}' is only in the database"]


@given(plans(), plans())
def test_two_shapes_differ_both_ways_or_neither(one: Plan, other: Plan) -> None:
    first, second = shape_of(build(one)), shape_of(build(other))

    assert bool(differences(first, second)) == bool(differences(second, first)) == (first.steps != second.steps)


@given(plans())
def test_pictures_and_json_show_every_step_once(plan: Plan) -> None:
    shape = shape_of(build(plan))
    slugs = [step.slug for step in shape.steps]

    assert sorted(re.findall(r"── (s\d+)", tree(shape))) == sorted(slugs)
    assert re.findall(r'"(s\d+)', mermaid(shape)) == slugs
    assert mermaid(shape).count("-->") == sum(len(step.dependencies) for step in shape.steps)
    assert [step["slug"] for step in as_json(shape)["steps"]] == slugs
