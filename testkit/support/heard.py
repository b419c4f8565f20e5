"""The events of workers and clients under test, as a subscriber hears them."""

from dataclasses import dataclass, field
from typing import TypeVar

from testkit.support.waiting import PATIENCE, until

from flowworker.telemetry.events import Event
from flowworker.telemetry.stream import EventStream

E = TypeVar("E", bound=Event)


@dataclass
class Heard:
    """Every event of a stream, in order."""

    stream: EventStream = field(default_factory=EventStream)
    events: list[Event] = field(default_factory=list[Event])

    def __post_init__(self) -> None:
        self.stream.subscribe(self.events.append)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def first(self, kind: type[E], *, patience: float = PATIENCE) -> E:
        """The first event of a kind, once it has come."""
        return (await until(lambda: self.of(kind), f"an event {kind.__name__}", patience=patience))[0]
