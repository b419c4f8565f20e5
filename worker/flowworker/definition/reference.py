"""The name of a handler: enough to find it again in another process, and to identify it to a reader."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerReference:
    """Where a handler is defined: in which module, for which flow or queue, under which name."""

    module: str
    """Importable, or `__main__` for a script, which is then found by its file."""
    file: str
    owner: str
    """Slug of the flow, or name of the queue."""
    name: str | None
    """The step's slug or the job's type; None for the only handler of a queue."""

    def __str__(self) -> str:
        return f"{self.module}:{self.owner}.{self.name}" if self.name else f"{self.module}:{self.owner}"
