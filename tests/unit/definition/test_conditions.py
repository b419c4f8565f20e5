"""Conditions of a step: what a flow may say, and what is refused when its module is imported."""

from typing import Any

import pytest

from flowworker import DefinitionError, Flow
from flowworker.definition.conditions import PLAIN, Conditions, Consequence, canonical
from flowworker.definition.step import decisive_steps


def root_step(**settings: Any) -> Conditions:
    """Conditions of a step that takes the run's input."""
    flow: Any = Flow("shop")

    @flow.step(**settings)
    def pay(order: dict[str, Any]) -> int:
        return len(order)

    return pay.conditions


def map_step(**settings: Any) -> Conditions:
    """Conditions of a map over the step `items`."""
    flow: Any = Flow("shop")

    @flow.step
    def items(order: dict[str, Any]) -> list[str]:
        return list(order)

    @flow.map(over=items, **settings)
    def pack(item: str) -> str:
        return item

    return pack.conditions


def test_a_step_has_none_unless_it_says_so() -> None:
    assert root_step() == PLAIN
    assert root_step(when=None, unless=None, when_unmet=None, when_exhausted=None) == PLAIN


def test_steps_and_maps_take_patterns_and_what_follows() -> None:
    assert root_step(when={"plan": "pro"}, unless={"test": True}, when_unmet="skip_cascade") == Conditions(
        when='{"plan":"pro"}', unless='{"test":true}', when_unmet=Consequence.SKIP_CASCADE
    )
    assert map_step(when={"items": ["box"]}, when_unmet="fail", when_exhausted="skip") == Conditions(
        when='{"items":["box"]}', when_unmet=Consequence.FAIL, when_exhausted=Consequence.SKIP
    )


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"when": "pro"}, r"when= takes a dict of what the input must contain, and not an empty one; got 'pro'"),
        ({"unless": {}}, r"unless= takes a dict .* got \{\}"),
        ({"when": {"a": float("nan")}}, r"when=.*nan"),
        ({"when": {"a": 1}, "when_unmet": "skip-cascade"}, "when_unmet= must be 'skip', 'skip_cascade' or 'fail', got"),
        ({"when_exhausted": True}, "when_exhausted= must be 'skip', 'skip_cascade' or 'fail', got True"),
        ({"when_unmet": "skip"}, "when_unmet= says what follows where when= or unless= is not met; there is neither"),
    ],
)
def test_what_says_nothing_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(DefinitionError, match=rf"flow 'shop', step 'pay'.*{rule}"):
        root_step(**settings)


def test_a_pattern_that_names_no_dependency_is_refused_because_nothing_could_contain_it() -> None:
    with pytest.raises(DefinitionError, match=r"when= names 'plan', which the step does not depend on.*\(items\)"):
        map_step(when={"plan": "pro"})


def test_a_map_over_the_run_s_input_takes_no_pattern_because_a_list_contains_no_object() -> None:
    flow: Any = Flow("shop")
    with pytest.raises(DefinitionError, match="when= could never be met: a map over the run's input gets a list"):

        @flow.map(when={"plan": "pro"})
        def pack(item: str) -> str:  # pyright: ignore[reportUnusedFunction]
            return item


SKIPPING: list[dict[str, Any]] = [
    {"when": {"plan": "pro"}},
    {"unless": {"plan": "pro"}, "when_unmet": "skip", "when_exhausted": "fail"},
    {"when": {"plan": "pro"}, "when_unmet": "fail", "when_exhausted": "skip"},
]
CERTAIN: list[dict[str, Any]] = [
    {},
    {"when": {"plan": "pro"}, "when_unmet": "fail", "when_exhausted": "skip_cascade"},
    {"unless": {"plan": "pro"}, "when_unmet": "skip_cascade"},
]


def dependent(settings: dict[str, Any]) -> Any:
    """A flow whose first step has these settings, to be gone on with."""
    flow: Any = Flow("shop")

    @flow.step(**settings)
    def pay(order: dict[str, Any]) -> int:  # pyright: ignore[reportUnusedFunction]
        return len(order)

    return flow


@pytest.mark.parametrize("settings", SKIPPING)
def test_what_may_be_skipped_must_be_optional_for_those_who_take_its_output(settings: dict[str, Any]) -> None:
    with pytest.raises(
        DefinitionError, match=r"step 'mail'.*parameter 'pay' takes the output of a step that may be skip"
    ):

        @dependent(settings).step
        def mail(pay: int) -> int:  # pyright: ignore[reportUnusedFunction]
            return pay


@pytest.mark.parametrize("settings", SKIPPING)
def test_what_may_be_skipped_may_be_optional_have_a_default_or_not_be_taken(settings: dict[str, Any]) -> None:
    flow = dependent(settings)

    @flow.step
    def mail(pay: int | None) -> int:
        return pay or 0

    @flow.step
    def file(pay: int = 7) -> int:
        return pay

    @flow.step(after=[flow.steps["pay"]])
    def log() -> int:
        return 0

    assert [step.dependencies for step in (mail, file, log)] == [("pay",)] * 3


@pytest.mark.parametrize("settings", CERTAIN)
def test_what_takes_its_dependants_along_or_fails_the_run_is_never_missing(settings: dict[str, Any]) -> None:
    @dependent(settings).step
    def mail(pay: int) -> int:
        return pay

    assert mail.dependencies == ("pay",)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('{"b": 1.0, "a": [1e2, -0.0, 1.50]}', '{"a":[100,0,1.5],"b":1}'),
        ('{"n": 12345678901234567890.12345678901234567890}', '{"n":12345678901234567890.1234567890123456789}'),
        ('{"\\u00e9": [true, null, ""]}', '{"é":[true,null,""]}'),
    ],
)
def test_what_jsonb_calls_equal_has_one_form(text: str, form: str) -> None:
    assert canonical(text) == form


def test_decisive_is_what_comes_before_a_condition_that_fails_the_run() -> None:
    flow = Flow("decisive")

    @flow.step
    async def first(value: dict[str, int]) -> int:
        return len(value)

    @flow.map
    async def beside(value: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return value

    @flow.step
    async def second(first: int) -> int:
        return first

    @flow.step(when={"second": 1}, when_unmet="skip")
    async def skipped(second: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return second

    assert decisive_steps(flow.steps) == set()

    @flow.step(unless={"second": 1}, when_unmet="fail")
    async def refused(second: int) -> int:
        return second

    @flow.step
    async def after(refused: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return refused

    assert decisive_steps(flow.steps) == {"first", "second"}
