"""Brings the fault of a cell about, and ends it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

from testkit.support import recording
from testkit.support.line import Line
from testkit.support.proxy import Weather
from testkit.support.waiting import until
from tests.chaos.cells import BANDWIDTH, LATENCY, Cell, Disturbance, Kind, Lane
from tests.chaos.ground import Ground
from tests.chaos.offers import Offer
from tests.chaos.workloads import Plan

from flowworker.database.connection import connect
from flowworker.definition.flow import Flow

WORKERS = (
    "SELECT FROM flowworker.workers WHERE pod_name = 'disturbed' FOR NO KEY UPDATE",
    "SELECT FROM pgflow.workers AS p JOIN flowworker.workers AS w USING (worker_id) "
    "WHERE w.pod_name = 'disturbed' FOR NO KEY UPDATE OF p",
)

CAUGHT = 4
"""Units at least whose rows are locked while their handlers run."""

HANDLING = 2.0
"""Seconds that these handlers take."""


@asynccontextmanager
async def disturbed(ground: Ground, cell: Cell, offer: Offer, chance: Random) -> AsyncGenerator[None]:
    """A cell's fault, in force until the end of the block.

    Args:
        ground: of a worker named `disturbed`, which goes through the proxy.
        cell: what is disturbed, and how.
        offer: of the flow or queue that the cell is about.
        chance: decides what is left to it.
    """
    if cell.disturbance is Disturbance.LOCK:
        async with locked(ground, await _locks(ground, cell, offer)):
            yield
        return
    assert cell.application in ground.proxy.applications, f"no connection is called {cell.application!r}"
    if cell.disturbance is Disturbance.CANCEL:
        async with _cancelled(ground, cell, chance):
            yield
        return
    line = ground.proxy.line(cell.application)
    _disturb(line, cell.disturbance)
    try:
        yield
    finally:
        line.heal()


@asynccontextmanager
async def _cancelled(ground: Ground, cell: Cell, chance: Random) -> AsyncGenerator[None]:
    """Half of the statements are cancelled in their midst; of claims and finishes some must have been."""
    role = next(role for role, name in ground.roles.items() if name == "disturbed")
    await recording.cancel(ground.owner, role, cell.application, chance.randrange(1_000_000))
    yield
    cancelled = await recording.cancel_no_more(ground.owner)
    assert cancelled > 0 or cell.lane not in {Lane.CLAIM, Lane.FINISH}, "no statement was cancelled"


@asynccontextmanager
async def locked(ground: Ground, statements: Sequence[str]) -> AsyncGenerator[None]:
    """Locks of another session, held until the end of the block."""
    connection = await connect(ground.database.superuser_dsn, application_name="test")
    try:
        await connection.execute("BEGIN")
        for statement in statements:
            await connection.execute(statement)
        yield
        await connection.execute("ROLLBACK")
    finally:
        connection.terminate()


def _disturb(line: Line, disturbance: Disturbance) -> None:
    match disturbance:
        case Disturbance.CUT:
            line.weather = Weather.REFUSED
        case Disturbance.BLACK_HOLE:
            line.weather = Weather.SWALLOWED
        case Disturbance.LATENCY:
            line.latency = LATENCY
        case Disturbance.BANDWIDTH:
            line.bandwidth = BANDWIDTH
        case Disturbance.CANCEL | Disturbance.LOCK:
            raise AssertionError(f"{disturbance} does not come from the network")


async def _locks(ground: Ground, cell: Cell, offer: Offer) -> Sequence[str]:
    """What the connection's statements need: as a migration, an application or an index build locks it."""
    table = f"pgmq.q_{_name(offer)}"
    match cell.lane:
        case Lane.CLAIM:
            return [f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"]
        case Lane.FINISH:
            owners = await _caught(ground, offer)
            return [_rows_of(owners, cell.kind, table)]
        case Lane.BEAT:
            return WORKERS
        case Lane.LISTEN:
            return [f"LOCK TABLE {table} IN SHARE MODE"]


async def _caught(ground: Ground, offer: Offer) -> Sequence[str]:
    """Units of work whose handlers have begun and last a while, some of them in the disturbed worker."""
    owners: list[str] = []

    async def begun() -> bool:
        found = {_owner(one.key.owner, one.key.index) for one in ground.executions(worker="disturbed")}
        if found.isdisjoint(owners) or len(owners) < CAUGHT:
            owners.append(await offer.put(connection, Plan(seconds=HANDLING)))
            return False
        return True

    async with ground.customer() as connection:
        await until(begun, "the disturbed worker has begun some of the work to be locked", every=0.2)
    return owners


def _rows_of(owners: Sequence[str], kind: Kind, table: str) -> str:
    match kind:
        case Kind.FLOW:
            ids = ", ".join(f"'{UUID(owner)}'" for owner in owners)
            return f"SELECT FROM pgflow.runs WHERE run_id IN ({ids}) FOR UPDATE"
        case Kind.QUEUE:
            ids = ", ".join(owner.rsplit(":", 1)[1] for owner in owners)
            return f"SELECT FROM {table} WHERE msg_id IN ({ids}) FOR UPDATE"


def _owner(owner: str, index: int) -> str:
    return owner if _is_run(owner) else f"{owner}:{index}"


def _is_run(owner: str) -> bool:
    try:
        UUID(owner)
    except ValueError:
        return False
    return True


def _name(offer: Offer) -> str:
    return offer.workload.slug if isinstance(offer.workload, Flow) else offer.workload.name
