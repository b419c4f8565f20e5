"""Reading which flows a database has and what is going on in them."""

from dataclasses import dataclass

from flowworker.database.refusals import AnyConnection, translated
from flowworker.database.statements import load


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSummary:
    """One flow of the database."""

    flow_slug: str
    steps: int
    max_attempts: int
    base_delay: int
    """Seconds."""
    timeout: int
    """Seconds."""
    active_runs: int
    workers: int
    """Workers that report to serve it and have not ended."""


async def list_flows(connection: AnyConnection) -> list[FlowSummary]:
    """Every flow of the database, by slug."""
    with translated("list flows"):
        rows = await connection.fetch(load("client/flows"))
    return [FlowSummary(**row) for row in rows]
