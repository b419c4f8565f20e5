"""What a round wants written is written without it, the latest word alone, and what came of it is a result."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.operator.observer import Observer, report, subject

from flowworker.database.connection import Connection
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import Key
from flowworker_operator.database_writes import DatabaseWrites, WriteResults
from flowworker_operator.domain.plan import Drain, EndDrain
from flowworker_operator.domain.snapshot import Loss, WorkerState

FLOW, MAIL = subject("one_step"), subject("mail", "queue")


def drain(uid: str) -> Drain:
    return Drain(pod=f"pod-{uid}", uid=uid, seconds=30.0, reason="shrink")


def release(uid: str) -> EndDrain:
    return EndDrain(pod=f"pod-{uid}", uid=uid, reason="grow")


class Clerk:
    """Writes for two FlowWorkers of one database, which is reached through a proxy."""

    def __init__(self, observer: Observer, proxy: Proxy) -> None:
        self.proxy = proxy
        self.leads = True
        self.heard: list[Key] = []
        self.database_writes = DatabaseWrites(
            databases=observer.databases, may_write=lambda: self.leads, on_result=self.heard.append
        )

    async def results(self, key: Key = FLOW.key) -> WriteResults:
        """The next results."""
        await until(lambda: key in self.heard, "there is a result")
        self.heard.clear()
        return self.database_writes.take_results(key)


@pytest.fixture
async def clerk(observer: Observer, database: Database) -> AsyncIterator[Clerk]:
    async with Proxy(database.server.port) as proxy:
        observer.watch(proxy.dsn(database.worker_dsn), FLOW, MAIL)
        await observer.reads(MAIL)
        made = Clerk(observer, proxy)
        yield made
        proxy.weather = Weather.CLEAR
        await made.database_writes.close()
        await observer.databases.close()


async def in_force(owner: Connection) -> set[str]:
    return {row["target"] for row in await owner.fetch("SELECT target FROM flowworker.drains")}


async def test_drains_are_reported_once_they_are_in_force_and_not_again(clerk: Clerk, owner: Connection) -> None:
    assert clerk.database_writes.drain(FLOW.key, [drain("a"), drain("b")], []) is None
    assert (await clerk.results()).draining == [drain("a"), drain("b")]
    assert await in_force(owner) == {"a", "b"}
    assert clerk.database_writes.take_results(FLOW.key) == WriteResults()
    clerk.database_writes.drain(FLOW.key, [drain("b"), drain("c")], [release("a")])
    assert (await clerk.results()).draining == [drain("c")]
    assert await in_force(owner) == {"b", "c"}


async def test_while_a_database_hangs_only_the_latest_word_is_kept(clerk: Clerk, owner: Connection) -> None:
    clerk.proxy.weather = Weather.SWALLOWED
    clerk.database_writes.drain(FLOW.key, [drain("first")], [])
    await asyncio.sleep(0)
    for number in range(100):
        clerk.database_writes.drain(FLOW.key, [drain(f"superseded-{number}")], [])
    clerk.database_writes.drain(FLOW.key, [drain("last")], [])
    clerk.database_writes.drain(MAIL.key, [drain("taken back")], [])
    clerk.database_writes.drain(MAIL.key, [], [])
    clerk.proxy.weather = Weather.CLEAR

    async def written() -> bool:
        clerk.database_writes.drain(FLOW.key, [drain("last")], [])
        return "last" in await in_force(owner)

    await until(written, "the last word is written", patience=40)
    assert await in_force(owner) <= {"first", "last", "taken back"}


async def test_the_dead_of_a_pod_come_with_their_last_reports(clerk: Clerk, owner: Connection) -> None:
    await report(owner, pod_uid="gone", pod_name="pod-gone", in_flight=3)
    clerk.database_writes.mark_gone(FLOW.key, {"gone"}, set())
    results = await clerk.results()
    assert results.marked == {"gone"}
    assert results.losses == [Loss(pod="pod-gone", state=WorkerState.RUNNING, in_flight=3)]


async def test_a_right_that_is_missing_is_named_until_it_is_there(clerk: Clerk, owner: Connection) -> None:
    await owner.execute("REVOKE INSERT, UPDATE, DELETE ON flowworker.drains FROM flowworker_worker")
    clerk.database_writes.drain(FLOW.key, [drain("a")], [])
    await clerk.results()
    refused = clerk.database_writes.drain(FLOW.key, [drain("a")], [])
    assert refused is not None
    assert refused.reason is Reason.DATABASE_REFUSED
    assert "ask workers to drain" in refused.message
    await owner.execute("GRANT INSERT, UPDATE, DELETE ON flowworker.drains TO flowworker_worker")

    def granted() -> bool:
        return clerk.database_writes.drain(FLOW.key, [drain("a")], []) is None

    await until(granted, "the right is there")


async def test_who_does_not_lead_any_more_or_is_forgotten_writes_nothing(clerk: Clerk, owner: Connection) -> None:
    clerk.database_writes.drain(MAIL.key, [drain("forgotten")], [])
    clerk.database_writes.forget(MAIL.key)
    clerk.leads = False
    clerk.database_writes.drain(FLOW.key, [drain("unled")], [])
    await asyncio.sleep(0)
    clerk.leads = True
    clerk.database_writes.drain(FLOW.key, [drain("led")], [])
    await clerk.results()
    assert await in_force(owner) == {"led"}
