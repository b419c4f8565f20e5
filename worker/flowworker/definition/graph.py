"""A flow's graph: its order, and its pictures as Mermaid and as a tree of plain text."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from flowworker.definition.conditions import PLAIN
from flowworker.definition.shape import FlowShape, StepShape
from flowworker.definition.step import StepKind
from flowworker.errors import DefinitionError


def levels(shape: FlowShape) -> Mapping[str, int]:
    """How many steps lie before each one, on the longest way to it; 0 for a root. Ordered so that it can be run.

    Raises:
        DefinitionError: a step depends on itself or on one that does not exist.
    """
    needs = {step.slug: step.dependencies for step in shape.steps}
    for slug, dependencies in needs.items():
        if unknown := [dependency for dependency in dependencies if dependency not in needs]:
            raise DefinitionError(f"flow {shape.slug!r}: step {slug!r} depends on {unknown[0]!r}, which does not exist")
    try:
        order = tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DefinitionError(f"flow {shape.slug!r} has a cycle: {' -> '.join(error.args[1])}") from error
    found: dict[str, int] = {}
    for slug in order:
        found[slug] = max((found[dependency] + 1 for dependency in needs[slug]), default=0)
    return found


def mermaid(shape: FlowShape) -> str:
    """The graph as a Mermaid flowchart; map steps have double borders, steps with conditions dashed ones.

    Nodes are numbered, because a slug may be a word Mermaid reserves (`end`).
    """
    numbers = {step.slug: f"s{number}" for number, step in enumerate(shape.steps)}
    nodes = [f"    {numbers[step.slug]}{_mermaid_label(step)}" for step in shape.steps]
    edges = [
        f"    {numbers[dependency]} --> {numbers[step.slug]}"
        for step in shape.steps
        for dependency in step.dependencies
    ]
    dashed = [f"    style {numbers[step.slug]} stroke-dasharray: 4" for step in shape.steps if step.conditions != PLAIN]
    return "\n".join(["flowchart TD", *nodes, *edges, *dashed])


def tree(shape: FlowShape) -> str:
    """The graph as a tree: every step once, under the dependency it waits for longest; others are named beside it."""
    depth = levels(shape)
    children: dict[str | None, list[StepShape]] = {}
    for step in shape.steps:
        children.setdefault(_parent(step, depth), []).append(step)
    return "\n".join([shape.slug, *_branches(children, None, "")])


def _mermaid_label(step: StepShape) -> str:
    conditions = "".join(f"<br/>{_mermaid_text(condition)}" for condition in step.conditions)
    match step.kind:
        case StepKind.SINGLE:
            return f'["{step.slug}{conditions}"]'
        case StepKind.MAP:
            return f'[["{step.slug} (map){conditions}"]]'


def _mermaid_text(text: str) -> str:
    """Text in which nothing ends the label, or is read as HTML or Markdown."""
    return "".join(char if char.isalnum() or char in " =_:,.-" else f"#{ord(char)};" for char in text)


def _parent(step: StepShape, depth: Mapping[str, int]) -> str | None:
    return max(step.dependencies, key=depth.__getitem__, default=None)


def _branches(children: Mapping[str | None, list[StepShape]], parent: str | None, indent: str) -> list[str]:
    lines: list[str] = []
    steps = children.get(parent, [])
    for step in steps:
        last = step is steps[-1]
        lines.append(f"{indent}{'└── ' if last else '├── '}{_tree_label(step, parent)}")
        lines += _branches(children, step.slug, indent + ("    " if last else "│   "))
    return lines


def _tree_label(step: StepShape, parent: str | None) -> str:
    kind = " [map]" if step.kind is StepKind.MAP else ""
    others = [dependency for dependency in step.dependencies if dependency != parent]
    also = f" (also after {', '.join(others)})" if others else ""
    conditions = "".join(f" {condition}" for condition in step.conditions)
    return f"{step.slug}{kind}{also}{conditions}"
