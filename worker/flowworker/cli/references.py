"""Flows and queues named on the command line: by slug, or as MODULE:OBJECT.

What a definition needs, pydantic above all, is imported where one is named.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from flowworker.errors import UsageError

if TYPE_CHECKING:
    from flowworker.definition.flow import Flow
    from flowworker.definition.loading import Workload
    from flowworker.definition.queue import Queue

W = TypeVar("W", "Flow", "Queue")


def load_all(references: Sequence[str]) -> "list[Workload]":
    """Everything that the references name, in order.

    Raises:
        HandlerImportError: one does not import, or names neither flow nor queue.
        UsageError: a flow or queue is named twice.
        DefinitionError: two of them share their messages.
    """
    from flowworker.definition.loading import load, refuse_shared_queues, slug_of

    found = [workload for reference in references for workload in load(reference)]
    names = [(type(workload), slug_of(workload)) for workload in found]
    refuse_shared_queues(found)
    for kind, name in names:
        if names.count((kind, name)) > 1:
            raise UsageError(f"{kind.__name__.lower()} {name!r} is named twice; one worker per flow or queue is enough")
    return found


def flow_or_slug(text: str) -> "Flow | str":
    """A flow where the text is a reference, a slug otherwise.

    Raises:
        HandlerImportError: the reference does not import, or names no flow.
        UsageError: it names a queue or several flows.
    """
    if ":" not in text:
        return text
    from flowworker.definition.flow import Flow

    return _one(text, Flow)


def queue_or_name(text: str) -> "Queue | str":
    """A queue where the text is a reference, a name otherwise.

    Raises:
        HandlerImportError: the reference does not import, or names no queue.
        UsageError: it names a flow or several queues.
    """
    if ":" not in text:
        return text
    from flowworker.definition.queue import Queue

    return _one(text, Queue)


def _one(reference: str, kind: type[W]) -> W:
    found = load_all([reference])
    match found:
        case [one] if isinstance(one, kind):
            return one
        case _:
            names = ", ".join(map(repr, found))
            raise UsageError(f"{reference} names {names}; one {kind.__name__.lower()} is wanted here")
