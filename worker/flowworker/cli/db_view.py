"""What a database holds, as text. Pure."""

from collections.abc import Iterator, Sequence

from flowworker.cli.output import Column, as_table
from flowworker.database.capabilities import Capabilities
from flowworker.database.status import DatabaseStatus, FlowStatus, QueueStatus

QUEUE_COLUMNS: Sequence[Column[QueueStatus]] = (
    Column(title="QUEUE", cell=lambda queue: queue.name),
    Column(title="NOTIFY", cell=lambda queue: queue.notify.status),
    Column(title="TO CHANGE THAT", cell=lambda queue: queue.notify.command, limit=None),
)
FLOW_COLUMNS: Sequence[Column[FlowStatus]] = (
    Column(title="FLOW", cell=lambda flow: flow.slug),
    Column(title="STEPS", cell=lambda flow: flow.steps, right=True),
)


def status_text(status: DatabaseStatus) -> str:
    """What is installed, then flows, then queues."""
    blocks = ["\n".join(_lines(status))]
    if status.flows:
        blocks.append(as_table(FLOW_COLUMNS, status.flows))
    if status.queues:
        blocks.append(as_table(QUEUE_COLUMNS, status.queues))
    return "\n\n".join(blocks)


def _lines(status: DatabaseStatus) -> Iterator[str]:
    found = status.capabilities
    yield f"postgresql: {_server(found)}"
    yield f"pgmq:       {_pgmq(found)}"
    yield f"pgflow:     {_pgflow(found)}"
    yield f"realtime:   {_realtime(found)}"
    yield f"flowworker: {f'installed, {len(status.ledger)} files in the ledger' if found.own_schema else 'missing'}"
    yield f"role may:   {', '.join(_rights(found)) or 'nothing that a worker needs'}"


def _server(found: Capabilities) -> str:
    major, minor = divmod(found.server_version, 10_000)
    state = "" if found.writable else ", read-only"
    return f"{major}.{minor}{state}"


def _pgmq(found: Capabilities) -> str:
    if not found.pgmq:
        return "missing"
    return "from SQL" if found.pgmq_extension is None else f"extension {found.pgmq_extension}"


def _pgflow(found: Capabilities) -> str:
    return "missing" if found.core is None else f"core {found.core}"


def _realtime(found: Capabilities) -> str:
    if not found.realtime:
        return "missing"
    return "its own" if found.run_events is None else f"our stand-in, announces: {found.run_events}"


def _rights(found: Capabilities) -> Iterator[str]:
    if found.can_work:
        yield "work"
    if found.can_report:
        yield "report"
    if found.can_compile:
        yield "compile flows"
    if found.can_create_queue:
        yield "create queues"
