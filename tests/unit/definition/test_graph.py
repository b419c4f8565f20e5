"""Pictures of a flow."""

import pytest

from flowworker import DefinitionError
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
