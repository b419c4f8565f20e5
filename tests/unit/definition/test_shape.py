"""The shape of a flow, and what is said when code and database disagree."""

from dataclasses import replace

import pytest

from flowworker import Flow
from flowworker.definition.conditions import Conditions, Consequence
from flowworker.definition.options import FlowOptions, StepOptions
from flowworker.definition.shape import FlowShape, StepShape, as_json, differences, shape_of
from flowworker.definition.step import StepKind

NAMES = StepShape(slug="names", kind=StepKind.SINGLE, options=StepOptions(timeout=7, start_delay=0))
GREET = StepShape(slug="greet", kind=StepKind.MAP, dependencies=("names",))
TOTAL = StepShape(slug="total", kind=StepKind.SINGLE, dependencies=("greet", "names"))


def shape(*steps: StepShape) -> FlowShape:
    return FlowShape(slug="greetings", steps=steps, options=FlowOptions(max_attempts=2))


def test_a_flow_has_the_shape_of_its_steps() -> None:
    flow = Flow("greetings", max_attempts=2)

    @flow.step(timeout=7, start_delay=0)
    def names(count: int) -> list[str]:
        return ["name"] * count

    @flow.map(over=names)
    def greet(name: str) -> str:
        return name

    @flow.step
    def total(names: list[str], greet: list[str]) -> int:
        return len(names) + len(greet)

    assert shape_of(flow) == shape(NAMES, GREET, TOTAL)


def test_equal_shapes_have_no_differences() -> None:
    assert differences(shape(NAMES, GREET), shape(NAMES, GREET)) == []


def test_options_are_no_difference() -> None:
    tuned = replace(shape(replace(NAMES, options=StepOptions(timeout=90)), GREET), options=FlowOptions(timeout=9))

    assert differences(shape(NAMES, GREET), tuned) == []


def test_the_order_of_dependencies_is_no_difference() -> None:
    database = shape(NAMES, GREET, replace(TOTAL, dependencies=("names", "greet")))

    assert differences(shape(NAMES, GREET, TOTAL), database) == []


@pytest.mark.parametrize(
    ("code", "database", "found"),
    [
        (shape(NAMES, GREET), shape(NAMES), ["step 'greet' is only in the code"]),
        (shape(NAMES), shape(NAMES, GREET), ["step 'greet' is only in the database"]),
        (
            shape(),
            shape(NAMES, GREET),
            ["step 'names' is only in the database", "step 'greet' is only in the database"],
        ),
        (
            shape(NAMES, GREET),
            shape(NAMES, replace(GREET, kind=StepKind.SINGLE)),
            ["step 'greet' is a map step in the code, a single step in the database"],
        ),
        (
            shape(NAMES, GREET),
            shape(NAMES, replace(GREET, dependencies=())),
            ["step 'greet' depends on 'names' in the code, on nothing in the database"],
        ),
        (
            shape(NAMES, replace(GREET, dependencies=())),
            shape(replace(GREET, dependencies=()), NAMES),
            ["the steps are in another order: names, greet in the code, greet, names in the database"],
        ),
        (
            shape(replace(NAMES, conditions=Conditions(when='{"a":1}', when_exhausted=Consequence.SKIP_CASCADE))),
            shape(replace(NAMES, conditions=Conditions(unless='{"a":1}'))),
            [
                "step 'names' has when={\"a\":1} in the code, no when in the database",
                "step 'names' has no unless in the code, unless={\"a\":1} in the database",
                "step 'names' has when_exhausted=skip_cascade in the code, when_exhausted=fail in the database",
            ],
        ),
    ],
)
def test_each_difference_is_a_sentence(code: FlowShape, database: FlowShape, found: list[str]) -> None:
    assert differences(code, database) == found


def test_the_json_form_has_every_key_pgflow_compares_and_only_set_options() -> None:
    condition = {"defined": False}
    assert as_json(shape(NAMES, TOTAL)) == {
        "options": {"maxAttempts": 2, "baseDelay": 5, "timeout": 60},
        "steps": [
            {
                "slug": "names",
                "stepType": "single",
                "dependencies": [],
                "whenUnmet": "skip",
                "whenExhausted": "fail",
                "requiredInputPattern": condition,
                "forbiddenInputPattern": condition,
                "options": {"timeout": 7, "startDelay": 0},
            },
            {
                "slug": "total",
                "stepType": "single",
                "dependencies": ["greet", "names"],
                "whenUnmet": "skip",
                "whenExhausted": "fail",
                "requiredInputPattern": condition,
                "forbiddenInputPattern": condition,
                "options": {},
            },
        ],
    }


def test_the_json_form_has_conditions_in_pgflow_s_words() -> None:
    conditions = Conditions(when='{"plan":"pro"}', unless='{"n":1}', when_unmet=Consequence.SKIP_CASCADE)
    (step,) = as_json(shape(replace(NAMES, conditions=conditions)))["steps"]
    assert (step["whenUnmet"], step["whenExhausted"]) == ("skip-cascade", "fail")
    assert step["requiredInputPattern"] == {"defined": True, "value": {"plan": "pro"}}
    assert step["forbiddenInputPattern"] == {"defined": True, "value": {"n": 1}}
