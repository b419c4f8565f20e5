import asyncio
from uuid import UUID

from testkit.support.waiting import until
from tests.integration.cli.calling import Cli
from tests.integration.client.test_workers import report

from flowworker.database.connection import Connection


async def until_asked(connection: Connection, worker_id: UUID) -> None:
    """Wait until the worker is asked to drain."""
    asked = "SELECT count(*) FROM flowworker.drains WHERE target = $1 AND until > clock_timestamp()"
    await until(lambda: connection.fetchval(asked, str(worker_id)), "the drain is asked for")


async def set_state(connection: Connection, worker_id: UUID, state: str) -> None:
    await connection.execute("UPDATE flowworker.workers SET state = $2 WHERE worker_id = $1", worker_id, state)


async def test_list_shows_the_living(cli: Cli, worker: Connection) -> None:
    alive, gone = await report(worker, "shop"), await report(worker, "shop", "stopped")
    listed = await cli("workers", "list")
    assert listed.out.splitlines()[1].split()[:5] == [str(alive), "shop", "flow", "shop", "running"]
    assert str(gone) not in listed.out
    assert len((await cli("workers", "list", "--all", "--slug", "shop", "-o", "json")).json) == 2


async def test_drain_asks_for_a_while_and_resume_ends_it(cli: Cli, worker: Connection) -> None:
    one = await report(worker, "shop", pod_uid="pod-1")
    assert (await cli("workers", "drain", "pod-1", "--for", "60", "--reason", "upgrade")).code == 0
    (listed,) = (await cli("workers", "list", "-o", "json")).json
    assert (listed["worker_id"], listed["drain_reason"]) == (str(one), "upgrade")
    assert (await cli("workers", "resume", "--slug", "shop")).code == 0
    (listed,) = (await cli("workers", "list", "-o", "json")).json
    assert listed["drain_until"] is None


async def test_drain_waits_until_nothing_is_in_flight(cli: Cli, worker: Connection) -> None:
    one, other = await report(worker, "shop"), await report(worker, "other")
    draining = await cli.start("workers", "drain", "--slug", "shop", "--wait", "--for", "3", "-o", "json")
    await until_asked(worker, one)
    await set_state(worker, one, "draining")
    await worker.execute("DELETE FROM flowworker.drains")
    await until_asked(worker, one)  # Renewed before it could lapse.
    await set_state(worker, one, "drained")
    out, err = await asyncio.wait_for(draining.communicate(), 20)
    assert (draining.returncode, err) == (0, b"")
    assert str(one).encode() in out
    assert str(other).encode() not in out


async def test_drain_gives_up_in_time(cli: Cli, worker: Connection) -> None:
    await report(worker, "shop")
    answer = await cli("workers", "drain", "--slug", "shop", "--wait", "--timeout", "0.3")
    assert answer.code == 1
    assert "still busy" in answer.err


async def test_drain_needs_a_worker(cli: Cli) -> None:
    assert (await cli("workers", "drain")).code == 64
    assert (await cli("workers", "drain", "--slug", "shop")).code == 65
