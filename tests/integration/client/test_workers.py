from uuid import UUID, uuid4

from flowworker.client import Client
from flowworker.database.connection import Connection

INSERT = """
    INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, pod_uid, version, state, slots)
    VALUES ($1, $1, 'flow', $2, $2, $3, '0.1', $4, 10)
"""


async def report(connection: Connection, slug: str, state: str = "running", pod_uid: str | None = None) -> UUID:
    worker_id = uuid4()
    await connection.execute(INSERT, worker_id, slug, pod_uid, state)
    return worker_id


async def test_workers_lists_the_living_and_on_demand_the_ended(client: Client, worker: Connection) -> None:
    alive, gone = await report(worker, "shop"), await report(worker, "shop", "lost")
    await report(worker, "other")
    found = await client.workers(slug="shop")
    assert [w.worker_id for w in found] == [alive]
    assert (found[0].state, found[0].slots, found[0].drain_until) == ("running", 10, None)
    assert [w.worker_id for w in await client.workers(slug="shop", ended=True)] == [alive, gone]


async def test_drain_is_a_lease_by_worker_id_or_pod_uid(client: Client, worker: Connection) -> None:
    first, second = await report(worker, "shop"), await report(worker, "shop", pod_uid="pod-7")
    await client.drain([str(first), "pod-7"], seconds=60, reason="maintenance")
    found = {w.worker_id: w for w in await client.workers()}
    assert {found[first].drain_reason, found[second].drain_reason} == {"maintenance"}
    await client.resume([str(first)])
    found = {w.worker_id: w for w in await client.workers()}
    assert (found[first].drain_reason, found[second].drain_reason) == (None, "maintenance")


async def test_a_drain_renewed_is_never_shortened(client: Client, worker: Connection) -> None:
    one = await report(worker, "shop")
    await client.drain([str(one)], seconds=60)
    (before,) = await client.workers()
    await client.drain([str(one)], seconds=1)
    (after,) = await client.workers()
    assert after.drain_until == before.drain_until


async def test_a_drain_lapses(client: Client, worker: Connection) -> None:
    one = await report(worker, "shop")
    await client.drain([str(one)], seconds=0)
    (found,) = await client.workers()
    assert found.drain_until is None
