"""Functions that run with their owner's rights, and where others could slip them something of their own.

A function declared SECURITY DEFINER that looks names up by its caller's search_path runs whatever the caller puts
there, as its owner. pgflow's core has two of that kind, and PUBLIC may execute them; an installation pins their path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flowworker.database.connection import Connection
from flowworker.database.statements import load

PINNED_HERE = frozenset({"pgflow.get_run_with_states", "pgflow.start_flow_with_states"})
"""Functions whose text names all it uses with its schema, so that they work on any path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definer:
    """A function that runs with its owner's rights on its caller's path."""

    name: str
    """Quoted, with its argument types."""
    is_ours: bool
    """This role may alter it."""

    @property
    def pin(self) -> str:
        """The statement that gives it a path of its own; the temporary schema last, or it would come first."""
        return f"ALTER FUNCTION {self.name} SET search_path = pg_catalog, pg_temp"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSchema:
    """A schema in which others than its owner may create objects."""

    name: str
    """Quoted."""
    by_all: bool
    """Everyone may; else it is this role that may and need not."""


def pins(found: Sequence[Definer]) -> list[str]:
    """The statements that an installation runs about what it found."""
    return [one.pin for one in found if one.is_ours and one.name.partition("(")[0] in PINNED_HERE]


async def read_definers(connection: Connection) -> list[Definer]:
    """The functions of that kind in the schemas of an installation."""
    return [Definer(**row) for row in await connection.fetch(load("catalogue/definers"))]


async def read_open_schemas(connection: Connection) -> list[OpenSchema]:
    """The schemas in which others may create."""
    return [OpenSchema(**row) for row in await connection.fetch(load("doctor/open_schemas"))]
