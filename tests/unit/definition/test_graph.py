"""Pictures of a flow."""

from dataclasses import replace

import pytest

from flowworker import DefinitionError
from flowworker.definition.conditions import Conditions, Consequence
from flowworker.definition.graph import levels, mermaid, tree
from flowworker.definition.shape import FlowShape, StepShape
from flowworker.definition.step import StepKind


def single(slug: str, *dependencies: str) -> StepShape:
    return StepShape(slug=slug, kind=StepKind.SINGLE, dependencies=dependencies)


def mapped(slug: str, *dependencies: str) -> StepShape:
    return StepShape(slug=slug, kind=StepKind.MAP, dependencies=dependencies)


def shape(*steps: StepShape) -> FlowShape:
    return FlowShape(slug="report", steps=steps)


DIAMOND = shape(
    single("urls"),
    mapped("fetch", "urls"),
    single("end", "urls"),
    single("total", "end", "fetch", "urls"),
    single("log"),
)


def test_mermaid_numbers_its_nodes_because_a_slug_may_be_a_reserved_word() -> None:
    assert mermaid(DIAMOND).splitlines() == [
        "flowchart TD",
        '    s0["urls"]',
        '    s1[["fetch (map)"]]',
        '    s2["end"]',
        '    s3["total"]',
        '    s4["log"]',
        "    s0 --> s1",
        "    s0 --> s2",
        "    s2 --> s3",
        "    s1 --> s3",
        "    s0 --> s3",
    ]


def test_the_tree_shows_every_step_once_and_names_its_other_dependencies() -> None:
    assert tree(DIAMOND).splitlines() == [
        "report",
        "├── urls",
        "│   ├── fetch [map]",
        "│   └── end",
        "│       └── total (also after fetch, urls)",
        "└── log",
    ]


CONDITIONAL = shape(
    replace(single("pay"), conditions=Conditions(when='{"plan":"<b>"}', when_unmet=Consequence.FAIL)),
    replace(mapped("mail", "pay"), conditions=Conditions(when_exhausted=Consequence.SKIP_CASCADE)),
)


def test_the_tree_says_conditions_in_the_words_of_the_code() -> None:
    assert tree(CONDITIONAL).splitlines() == [
        "report",
        '└── pay when={"plan":"<b>"} when_unmet=fail',
        "    └── mail [map] when_exhausted=skip_cascade",
    ]


def test_mermaid_shows_conditions_under_the_name_and_dashes_the_border() -> None:
    assert mermaid(CONDITIONAL).splitlines() == [
        "flowchart TD",
        '    s0["pay<br/>when=#123;#34;plan#34;:#34;#60;b#62;#34;#125;<br/>when_unmet=fail"]',
        '    s1[["mail (map)<br/>when_exhausted=skip_cascade"]]',
        "    s0 --> s1",
        "    style s0 stroke-dasharray: 4",
        "    style s1 stroke-dasharray: 4",
    ]


def test_an_empty_flow_is_its_name() -> None:
    assert tree(shape()) == "report"
    assert mermaid(shape()) == "flowchart TD"


def test_levels_count_the_steps_before_on_the_longest_way() -> None:
    assert levels(DIAMOND) == {"urls": 0, "log": 0, "fetch": 1, "end": 1, "total": 2}


def test_a_cycle_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"flow 'report' has a cycle: (a -> b -> a|b -> a -> b)"):
        levels(shape(single("a", "b"), single("b", "a")))


def test_a_dependency_that_does_not_exist_is_named() -> None:
    with pytest.raises(DefinitionError, match="step 'a' depends on 'b', which does not exist"):
        levels(shape(single("a", "b")))
