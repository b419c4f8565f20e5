"""Finding runs: by what, in which order, page by page, and for how long."""

import math
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.conftest import Database
from tests.integration.client.acting import complete, fail

from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.records import RunStatus
from flowworker.database.run_search import id_range
from flowworker.database.runs import Run
from flowworker.errors import DataError, UnknownRunError, UsageError

Asked = Callable[[Run], dict[str, object]]

SEARCHES: dict[str, Asked] = {
    "flow": lambda _: {"flow": "other"},
    "status": lambda _: {"status": RunStatus.FAILED},
    "since": lambda run: {"since": run.started_at, "until": run.started_at + timedelta(microseconds=1)},
    "error": lambda _: {"error": "NO Stock"},
    "the whole id": lambda run: {"id_prefix": str(run.run_id)},
    "part of the id": lambda run: {"id_prefix": str(run.run_id)[:20].upper()},
    "part of the id without dashes": lambda run: {"id_prefix": run.run_id.hex[:17]},
    "a number in the input": lambda _: {"input": {"customer.id": "7"}},
    "a text in a list of the input": lambda _: {"input": {"items.1": "b"}},
    "two values of the input": lambda _: {"input": {"customer.id": "7", "items.0": "a"}},
    "all at once": lambda run: {
        "flow": "other", "status": RunStatus.FAILED, "since": run.started_at, "error": "stock",
        "id_prefix": run.run_id.hex[:8], "input": {"customer.id": "7"}, "oldest_first": True,
    },
}  # fmt: skip


async def test_each_search_finds_the_run_that_it_is_about(
    client: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    await owner.execute(
        "SELECT pgflow.create_flow('other', max_attempts => 1); SELECT pgflow.add_step('other', 'items')"
    )
    await client.start(shop, {"customer": {"id": 8}, "items": ["a"]})
    run = await client.start("other", {"customer": {"id": 7}, "items": ["a", "b"]})
    await fail(worker, run, "items", "no stock at 100% of places")
    completed = await client.start(shop, {"customer": "none"})
    await complete(worker, completed, "items", [])
    for name, asked in SEARCHES.items():
        found = await client.runs(**asked(run))  # pyright: ignore[reportArgumentType]
        assert [one.run_id for one in found] == [run.run_id], name
    assert await client.runs(error="no_stock") == await client.runs(error="no%stock") == []
    assert await client.runs(input={"customer.id": "70"}) == await client.runs(input={"": "7"}) == []


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_give_each_run_once_also_where_runs_started_at_the_same_moment(
    client: Client, owner: Connection, shop: str, oldest_first: bool
) -> None:
    for count in (1, 6, 1):
        await owner.execute("SELECT pgflow.start_flow('shop', '1') FROM generate_series(1, $1)", count)
    whole = [run.run_id for run in await client.runs(oldest_first=oldest_first)]
    pages: list[UUID] = []
    while page := await client.runs(limit=3, oldest_first=oldest_first, after=pages[-1] if pages else None):
        pages += [run.run_id for run in page]
        if not oldest_first:
            await client.start(shop, 1)  # what is newer does not shift the pages
    assert pages == whole
    assert len(set(pages)) == 8


async def test_a_page_behind_an_unknown_run_is_refused(client: Client) -> None:
    with pytest.raises(UnknownRunError, match="has no run"):
        await client.runs(after=uuid4())


@pytest.mark.parametrize("prefix", ["", "-", "g", "0" * 33, "%", "0x12"])
def test_what_begins_no_id_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"no run's id begins with {prefix!r}")):
        id_range(prefix)


async def test_a_search_that_takes_too_long_is_ended_and_says_how_to_narrow_it(
    client: Client, owner: Connection, shop: str
) -> None:
    run = await client.start(shop, 1)
    async with owner.transaction():
        await owner.execute("LOCK TABLE pgflow.runs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DataError, match=r"took longer than 0\.2 s and was ended: ask for less.*raise the timeout"):
            await client.runs(timeout=0.2)
    assert [one.run_id for one in await client.runs()] == [run.run_id]


async def test_the_limits_of_a_search_end_with_it(database: Database, shop: str) -> None:
    async with Client(database.worker_dsn, max_connections=1) as client:
        await client.runs(timeout=0.2)
        async with client._connection("look") as connection:  # pyright: ignore[reportPrivateUsage]
            assert await connection.fetchval("SHOW plan_cache_mode") == "auto"
            assert await connection.fetchval("SHOW statement_timeout") == "0"


async def test_a_search_may_take_as_long_as_it_wants(client: Client, shop: str) -> None:
    run = await client.start(shop, 1)
    assert [found.run_id for found in await client.runs(timeout=math.inf)] == [run.run_id]
    assert [found.run_id for found in await client.stuck_runs(unserved_for=0, timeout=math.inf)] == [run.run_id]


@pytest.mark.parametrize("text", ["\0", "\ud800"])
async def test_a_text_that_no_input_holds_is_refused(client: Client, text: str) -> None:
    with pytest.raises(DataError, match="cannot list runs"):
        await client.runs(input={"name": text})
