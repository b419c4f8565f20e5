"""Flows that go wrong, or that cost nothing."""

from flowworker import Flow

changed = Flow("single", max_attempts=3, base_delay=1, timeout=3600)
"""Another shape than the flow of this slug that the database has."""

unequal: object = "no flow at all"

fresh = Flow("fresh", max_attempts=3, base_delay=1, timeout=60)
"""A flow that no database has."""


@fresh.step
async def made(plan: dict[str, str]) -> int:
    """Its only step."""
    return len(plan)


@changed.step
async def first(plan: dict[str, str]) -> int:
    """One step more than there should be."""
    return len(plan)


@changed.step
async def only(first: int) -> int:
    """The step that both have."""
    return first
