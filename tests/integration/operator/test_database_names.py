"""Hosts whose names take long hold up nothing but the reading of their own databases."""

import threading
from collections.abc import Sequence

import pytest
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.operator.observer import Observer, subject


@pytest.mark.parametrize("namespaces", [1, 100])
async def test_a_good_database_is_read_at_once_while_a_hundred_hosts_are_looked_up(
    database: Database, namespaces: int
) -> None:
    asked, end = list[str](), threading.Event()

    def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        if host.startswith("slow"):
            end.wait(120)
        return ["127.0.0.1"]

    observer = Observer(lookup=lookup)
    stuck = [
        subject("one_step", name=f"slow-{number}", namespace=f"tenant-{number % namespaces}") for number in range(100)
    ]
    for slow in stuck:
        observer.watch(f"postgresql://u:p@{slow.key.name}.example/app", slow)
    await until(lambda: len(asked) >= 64, "many are looked up")
    good = subject("one_step")
    observer.watch(database.worker_dsn.replace("127.0.0.1", "good.example"), good)
    await observer.reads(good)
    assert all(observer.databases.reading(slow.key) is None for slow in stuck), "their names are still being looked up"
    end.set()
    await observer.databases.close()
