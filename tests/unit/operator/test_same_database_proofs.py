"""How often a proof of a database is tried, and what is kept of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from flowworker_operator.database.same_database import AGAIN_AFTER, LONGEST_PAUSE, SameDatabase, SameDatabaseProofs
from flowworker_operator.database.watcher import DatabaseWatcher


class Connection:
    """A connection on which every lock is held and none of another one is seen."""

    place = "db:5432/app"

    def __init__(self) -> None:
        self.orders = 0

    async def order(self, _: Callable[[Any], Awaitable[Any]]) -> bool:
        self.orders += 1
        return self is CLAIMANT


CLAIMANT, OTHER = Connection(), Connection()


class Proofs:
    def __init__(self) -> None:
        self.now = 0.0
        self.all = SameDatabaseProofs(lambda: self.now)

    async def ask(self, database: str) -> SameDatabase:
        """What is known once what was begun has ended."""
        claimant, other = cast("DatabaseWatcher", CLAIMANT), cast("DatabaseWatcher", OTHER)
        found = self.all.ask(claimant, other, database, lambda: None)
        await asyncio.sleep(0)
        for task in [one for one in asyncio.all_tasks() if one.get_name() == "proof of a database"]:
            await task
        return found


async def test_a_server_with_another_name_each_time_is_asked_no_more_often() -> None:
    proofs, before = Proofs(), OTHER.orders
    for number in range(100):
        proofs.now += AGAIN_AFTER / 10
        await proofs.ask(f"name-{number}")
    assert OTHER.orders - before <= 11


async def test_one_that_is_seen_to_be_another_is_asked_ever_more_rarely() -> None:
    proofs, before = Proofs(), OTHER.orders
    for _ in range(3600):
        proofs.now += 1
        await proofs.ask("app")
    assert await proofs.ask("app") is SameDatabase.DIFFERENT
    assert 5 <= OTHER.orders - before <= 6 + 3600 / LONGEST_PAUSE


async def test_nothing_is_left_of_a_connection_that_is_given_up() -> None:
    proofs, before = Proofs(), OTHER.orders
    await proofs.ask("app")
    assert OTHER.orders == before + 1
    proofs.all.forget(cast("DatabaseWatcher", CLAIMANT))
    proofs.all.forget(cast("DatabaseWatcher", OTHER))
    assert await proofs.ask("app") is SameDatabase.UNKNOWN
    assert OTHER.orders == before + 2
    await proofs.all.close()
