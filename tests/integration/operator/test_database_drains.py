"""Drains, asked for on behalf of one FlowWorker until they lapse, and the marking of workers whose pods are gone."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from testkit.support.waiting import until
from tests.conftest import OWNER_ROLE, Database
from tests.integration.operator.observer import Observer, report, subject
from tests.integration.sources.world import World

from flowworker.database import probe
from flowworker.database.connection import Connection
from flowworker.database.install import Action, install
from flowworker.database.packaged import Component
from flowworker.database.workers_admin import end_drain, request_drain
from flowworker.errors import DatabaseUnavailableError, MissingRightsError
from flowworker_operator.database import Key, watcher
from flowworker_operator.domain.snapshot import Loss, WorkerState

FLOW, MAIL = subject("one_step"), subject("mail", "queue")


@pytest.fixture
async def watching(observer: Observer, database: Database) -> Observer:
    """An observer that has read the database."""
    observer.watch(database.worker_dsn, FLOW, MAIL)
    await observer.reads(MAIL)
    return observer


async def known(observer: Observer, key: Key = FLOW.key) -> dict[str, float]:
    reading = await observer.reads(FLOW if key == FLOW.key else MAIL)
    return {pod: drain.age for pod, drain in reading.drains.items()}


async def drains(owner: Connection) -> list[tuple[str, str, str]]:
    rows = await owner.fetch("SELECT target, created_by, reason FROM flowworker.drains ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_a_drain_is_a_lease_that_the_workers_of_the_pod_heed(watching: Observer, world: World) -> None:
    worker_id = await report(world.owner, pod_uid="pod")
    await watching.databases.drain(FLOW.key, [("pod", 30.0, "too many")])
    beat = await world.beat(worker_id, slug="one_step", pod_uid="pod")
    drain = beat.own[worker_id].drain
    assert drain is not None
    assert drain.reason == "too many"
    left = await world.owner.fetchval("SELECT extract(epoch FROM $1 - clock_timestamp())::float8", drain.until)
    assert left == pytest.approx(30, abs=10)
    assert list(await known(watching)) == ["pod"]


async def test_a_renewal_keeps_the_time_it_was_first_asked_for_and_a_lapse_does_not(
    watching: Observer, owner: Connection
) -> None:
    assert await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")]) == {"pod"}
    await owner.execute("UPDATE flowworker.drains SET created_at = created_at - interval '1 hour'")
    assert await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")]) == set()
    assert (await known(watching))["pod"] == pytest.approx(3600, abs=60)
    await owner.execute("UPDATE flowworker.drains SET until = clock_timestamp()")
    assert await known(watching) == {}
    await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")])
    assert (await known(watching))["pod"] < 60


async def test_each_flowworker_sees_and_ends_its_own_drains_only(watching: Observer, owner: Connection) -> None:
    await watching.databases.drain(FLOW.key, [("one", 30.0, "mine"), ("two", 30.0, "mine")])
    await watching.databases.drain(MAIL.key, [("one", 30.0, "theirs")])
    await request_drain(owner, ["one", "two", "three"], seconds=600, reason="a person")
    assert set(await known(watching)) == {"one", "two"}
    assert set(await known(watching, MAIL.key)) == {"one"}
    await watching.databases.end_drains(FLOW.key, ["one", "three"])
    assert await drains(owner) == [
        ("one", "operator/shop/mail", "theirs"),
        ("one", "user", "a person"),
        ("three", "user", "a person"),
        ("two", "operator/shop/one-step", "mine"),
        ("two", "user", "a person"),
    ]


async def test_a_person_may_end_every_drain_of_a_pod(watching: Observer, owner: Connection) -> None:
    await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")])
    await request_drain(owner, ["pod"], seconds=60, reason="a person")
    await request_drain(owner, ["pod"], seconds=600, reason="again")
    assert len(await drains(owner)) == 2
    await end_drain(owner, ["pod"])
    assert await drains(owner) == []


async def test_a_new_drain_is_read_at_once_and_a_renewal_in_its_time(
    observer: Observer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "INTERVAL", 300.0)
    calm = subject("one_step", eager=False)
    observer.watch(database.worker_dsn, calm)
    await observer.reads(calm)
    await observer.databases.drain(calm.key, [("pod", 30.0, "shrink")])

    def seen() -> bool:
        reading = observer.databases.reading(calm.key)
        return reading is not None and "pod" in reading.drains

    await until(seen, "the drain is read back")


async def lost(watching: Observer, gone: Sequence[str], silent: Sequence[str] = ()) -> list[str]:
    """Pods of the workers that are marked lost."""
    return [loss.pod for loss in await watching.databases.mark_gone(FLOW.key, gone, silent)]


async def test_a_lost_worker_comes_with_its_last_report(watching: Observer, owner: Connection) -> None:
    await report(owner, pod_uid="gone", pod_name="pod-gone", state="draining", in_flight=3)
    assert await watching.databases.mark_gone(FLOW.key, ["gone"]) == [
        Loss(pod="pod-gone", state=WorkerState.DRAINING, in_flight=3)
    ]


async def test_workers_of_pods_that_are_gone_are_lost_at_once(watching: Observer, owner: Connection) -> None:
    states = {pod: await report(owner, pod_uid=pod, pod_name=f"pod-{pod}") for pod in ("gone", "here")}
    await report(owner, pod_uid="gone", state="stopped")
    assert await lost(watching, ["gone", "never seen"]) == ["pod-gone"]
    assert await lost(watching, ["gone", "never seen"]) == []
    found = {
        row["worker_id"]: row["state"] for row in await owner.fetch("SELECT worker_id, state FROM flowworker.workers")
    }
    assert (found[states["gone"]], found[states["here"]]) == ("lost", "running")
    assert sorted(found.values()) == ["lost", "running", "stopped"]


async def beaten(owner: Connection, seconds: float) -> UUID:
    """A worker of pod `pod` whose last heartbeat was so long ago."""
    now: datetime = await owner.fetchval("SELECT clock_timestamp()")
    return await report(owner, pod_uid="pod", pod_name="pod-name", reported_at=now - timedelta(seconds=seconds))


async def test_of_a_silent_pod_only_workers_that_missed_a_heartbeat_are_lost(
    watching: Observer, owner: Connection
) -> None:
    dead, anew = await beaten(owner, 5.0), await beaten(owner, -60.0)
    assert await lost(watching, [], ["pod"]) == ["pod-name"]
    assert await lost(watching, [], ["pod"]) == []
    rows = await owner.fetch("SELECT worker_id, state FROM flowworker.workers")
    assert {row["worker_id"]: row["state"] for row in rows} == {dead: "lost", anew: "running"}
    await owner.execute("UPDATE flowworker.workers SET reported_at = clock_timestamp() - interval '5 seconds'")
    assert await lost(watching, [], ["pod"]) == ["pod-name"], "asked for again"


async def test_of_a_pod_that_is_gone_all_workers_are_lost_however_young(watching: Observer, owner: Connection) -> None:
    await beaten(owner, -60.0)
    assert await lost(watching, ["pod"], ["pod"]) == ["pod-name"]


async def test_a_heartbeat_that_comes_in_between_saves_the_worker_of_a_silent_pod(
    database: Database, owner: Connection, worker: Connection
) -> None:
    await beaten(owner, 5.0)
    watcher = await database.connect()

    async def waits() -> bool:
        return await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", worker.get_server_pid())

    async with owner.transaction():
        await owner.execute("UPDATE flowworker.workers SET reported_at = clock_timestamp() + interval '1 minute'")
        marking = asyncio.create_task(probe.mark_gone(worker, [], ["pod"]))
        await until(waits, "marking waits for the heartbeat")
    assert await marking == []
    await watcher.close()


async def test_with_a_pod_that_is_gone_go_the_drains_that_the_operator_asked_for(
    watching: Observer, owner: Connection
) -> None:
    await watching.databases.drain(FLOW.key, [(pod, 30.0, "shrink") for pod in ("gone", "here", "silent")])
    await request_drain(owner, ["gone"], seconds=600, reason="a person")
    await watching.databases.mark_gone(FLOW.key, ["gone"], ["silent"])
    assert await drains(owner) == [
        ("gone", "user", "a person"),
        ("here", "operator/shop/one-step", "shrink"),
        ("silent", "operator/shop/one-step", "shrink"),
    ]


async def test_a_drain_that_a_transaction_has_locked_keeps_no_worker_from_being_lost(
    watching: Observer, owner: Connection
) -> None:
    await beaten(owner, 0.0)
    await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")])
    async with owner.transaction():
        await owner.execute("SELECT FROM flowworker.drains FOR UPDATE")
        assert await lost(watching, ["pod"]) == ["pod-name"]
    assert len(await drains(owner)) == 1


async def test_orders_for_what_is_not_watched_or_not_reachable_say_so(observer: Observer) -> None:
    with pytest.raises(DatabaseUnavailableError, match="shop/one-step"):
        await observer.databases.drain(FLOW.key, [("pod", 30.0, "shrink")])
    observer.watch("nonsense", FLOW)
    with pytest.raises(DatabaseUnavailableError):
        await observer.databases.end_drains(FLOW.key, ["pod"])


async def test_nothing_to_order_asks_nothing(observer: Observer) -> None:
    await observer.databases.drain(FLOW.key, [])
    await observer.databases.end_drains(FLOW.key, [])
    assert not await observer.databases.mark_gone(FLOW.key, [])


async def test_a_role_that_may_not_write_drains_is_reported(watching: Observer, owner: Connection) -> None:
    await owner.execute("REVOKE INSERT, UPDATE, DELETE ON flowworker.drains FROM flowworker_worker")
    with pytest.raises(MissingRightsError, match="ask workers to drain"):
        await watching.databases.drain(FLOW.key, [("pod", 30.0, "shrink")])
    with pytest.raises(MissingRightsError, match="end drains"):
        await watching.databases.end_drains(FLOW.key, ["pod"])


DENIED = {
    "read what nobody counts": "SELECT FROM public.secrets",
    "delete a task": "DELETE FROM pgflow.step_tasks",
    "change a flow": "UPDATE pgflow.flows SET opt_timeout = 1",
    "alter the drains": "ALTER TABLE flowworker.drains ADD COLUMN mine int",
    "become the owner": f"SET ROLE {OWNER_ROLE}",
}


@pytest.mark.parametrize("action", DENIED)
async def test_the_rights_of_a_worker_are_all_that_is_needed_and_no_more(
    owner: Connection, worker: Connection, action: str
) -> None:
    await owner.execute("CREATE TABLE public.secrets (secret text)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker.execute(DENIED[action])


async def test_an_installation_from_before_is_brought_up_to_date_with_what_it_holds(owner: Connection) -> None:
    await owner.execute("ALTER TABLE flowworker.drains DROP COLUMN created_by")
    await owner.execute("ALTER TABLE flowworker.drains ADD CONSTRAINT drains_pkey PRIMARY KEY (target)")
    await owner.execute("DROP INDEX flowworker.workers_served, flowworker.workers_owned")
    await owner.execute("INSERT INTO flowworker.drains VALUES ('pod', now() + interval '1 hour', 'a person')")
    await owner.execute(
        "UPDATE flowworker.ledger SET checksum = 'of an earlier version' WHERE component = 'flowworker'"
    )
    assert (await install(owner)).action(Component.FLOWWORKER) is Action.UPDATED
    assert await drains(owner) == [("pod", "user", "a person")]
    indexes = await owner.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'flowworker' AND tablename <> 'ledger'"
    )
    assert {row["indexname"] for row in indexes} == {
        "drains_asked", "drains_pkey", "requests_about", "requests_for_many", "requests_pkey", "run_links_from",
        "run_links_pkey", "run_links_to", "workers_ended", "workers_living", "workers_owned", "workers_pkey",
        "workers_served",
    }  # fmt: skip
    await request_drain(owner, ["pod"], seconds=60, reason="renewed")
    assert (await install(owner)).action(Component.FLOWWORKER) is Action.KEPT
