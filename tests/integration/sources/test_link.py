"""A connection that comes back."""

import asyncio

import asyncpg
import pytest
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import until
from tests.conftest import Database

from flowworker.database import link as link_module
from flowworker.database.connection import Connection
from flowworker.database.identifiers import quote
from flowworker.database.link import BESIDE_AFTER, RETRY_PAUSE, Limits, Link, Links, StateCallback
from flowworker.errors import AuthenticationError, DatabaseUnavailableError, UsageError


async def pid(connection: Connection) -> int:
    return connection.get_server_pid()


async def same(connection: Connection) -> Connection:
    return connection


async def sleep(connection: Connection) -> None:
    await connection.execute("SELECT pg_sleep(60)")


def a_link(
    database: Database, *, timeout: float = 30.0, statement_cache: bool = True, on_state: StateCallback | None = None,
    limits: Limits | None = None,
) -> Link:  # fmt: skip
    return Link(
        database.worker_dsn,
        application_name="linked",
        timeout=timeout,
        statement_cache=statement_cache,
        on_state=on_state,
        limits=limits,
    )


async def test_nothing_is_opened_before_the_first_use(database: Database, owner: Connection) -> None:
    link = a_link(database)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'linked'"
    assert await owner.fetchval(count) == 0
    first, second = await link.run(pid), await link.run(pid)
    assert first == second
    await link.close()
    await link.close()


async def test_a_killed_connection_is_reported_and_replaced(database: Database) -> None:
    states: list[tuple[bool, str | None]] = []

    def note(up: bool, error: str | None) -> None:
        states.append((up, error))

    link = a_link(database, on_state=note)
    first = await link.run(pid)
    with pytest.raises(DatabaseUnavailableError):
        await link.run(lambda connection: connection.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await link.run(pid) != first
    assert [up for up, _ in states] == [True, False, True]
    assert states[1][1]
    await link.close()


RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'linked' AND state = 'active'"
"""Only the worker's own role sees what its sessions do."""


async def test_a_connection_that_is_killed_while_idle_is_reported_and_replaced(
    database: Database, worker: Connection
) -> None:
    states: list[bool] = []
    link = a_link(database, on_state=lambda up, _: states.append(up))
    first = await link.run(pid)
    connection = await link.run(same)
    await worker.execute("SELECT pg_terminate_backend($1)", first)
    await until(connection.is_closed, "the end has arrived")
    assert await link.run(pid) != first
    assert states == [True, False, True]
    await link.close()


async def test_silence_ends_the_statement_on_the_server_and_keeps_the_connection(
    database: Database, worker: Connection
) -> None:
    link = a_link(database, timeout=0.2)
    first = await link.run(pid)
    with pytest.raises(DatabaseUnavailableError, match="not answered"):
        await link.run(sleep)
    assert await worker.fetchval(RUNNING) == 0
    assert await link.run(pid) == first
    await link.close()


async def test_a_cancelled_piece_of_work_ends_on_the_server_and_keeps_the_connection(
    database: Database, worker: Connection
) -> None:
    link = a_link(database)
    first = await link.run(pid)
    running = asyncio.create_task(link.run(sleep))
    await until(lambda: worker.fetchval(RUNNING), "the statement runs")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await worker.fetchval(RUNNING) == 0
    assert await link.run(pid) == first
    await link.close()


async def test_a_cancelled_transaction_is_rolled_back(database: Database, worker: Connection) -> None:
    link = a_link(database)

    async def write(connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO flowworker.drains (target, until, reason) VALUES ('x', now(), 'y')")
            await sleep(connection)

    running = asyncio.create_task(link.run(write))
    await until(lambda: worker.fetchval(RUNNING), "the statement runs")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await link.run(lambda connection: connection.fetchval("SELECT count(*) FROM flowworker.drains")) == 0
    await link.close()


async def test_a_statement_past_its_limit_is_over_and_says_so(
    database: Database, owner: Connection, worker: Connection
) -> None:
    link = a_link(database, limits=Limits(statement=0.2, lock=0.1))
    first = await link.run(pid)
    with pytest.raises(asyncpg.QueryCanceledError):
        await link.run(sleep)
    assert await worker.fetchval(RUNNING) == 0
    async with owner.transaction():
        await owner.execute("LOCK TABLE flowworker.drains")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await link.run(lambda connection: connection.fetch("SELECT * FROM flowworker.drains"))
    assert await link.run(pid) == first
    await link.close()


async def test_work_may_bring_limits_of_its_own(database: Database) -> None:
    link = a_link(database, limits=Limits(statement=0.2, lock=0.1))

    async def nap(connection: Connection) -> int:
        answer: int = await connection.fetchval("SELECT 1 FROM pg_sleep(0.4)")
        return answer

    assert await link.run(nap, limits=Limits(statement=10, lock=1)) == 1
    with pytest.raises(asyncpg.QueryCanceledError):
        await link.run(nap)
    await link.close()


async def test_defaults_of_a_role_change_nothing(database: Database, owner: Connection) -> None:
    for setting in (
        "statement_timeout = '50ms'",
        "default_transaction_isolation = 'serializable'",
        "search_path = 'nowhere'",
        "idle_in_transaction_session_timeout = '1ms'",
        "idle_session_timeout = '10s'",
    ):
        await owner.execute(f"ALTER DATABASE {quote(database.name)} SET {setting}")
    link = a_link(database, limits=Limits(statement=5, lock=1))
    shown = await link.run(
        lambda connection: connection.fetchrow(
            "SELECT current_setting('statement_timeout') AS statement, current_setting('transaction_isolation') AS "
            "isolation, current_setting('search_path') AS path, current_setting('idle_session_timeout') AS idle"
        )
    )
    assert shown is not None
    assert tuple(shown) == ("5s", "read committed", 'pg_catalog, "$user", public', "0")
    await link.close()


async def test_a_session_that_was_given_up_is_ended_by_the_next_one(database: Database, owner: Connection) -> None:
    async with Proxy(database.server.port) as proxy:
        link = Link(proxy.dsn(database.worker_dsn), application_name="linked", limits=Limits(statement=1, lock=1))
        first = await link.run(pid)
        proxy.weather = Weather.SWALLOWED
        with pytest.raises(DatabaseUnavailableError):
            await link.run(lambda connection: connection.fetchval("SELECT 1"))
        assert link.given_up == 1
        proxy.weather = Weather.CLEAR

        async def again() -> "int | None":
            try:
                return await link.run(pid)
            except DatabaseUnavailableError:
                return None

        assert await until(again, "a new connection") != first
        assert link.given_up == 0
        assert await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'linked'") == 1
        await link.close()


async def test_a_slow_answer_is_no_silence(database: Database) -> None:
    """20 MB in pieces with a pause between each two take longer than the silence that is allowed here.

    Rows, because the server sends them as it makes them; one value of that size it makes as a whole first.
    """
    async with Proxy(database.server.port) as proxy:
        link = Link(proxy.dsn(database.worker_dsn), application_name="linked", timeout=3.0)
        await link.run(pid)
        proxy.latency = 0.02
        rows = await link.run(
            lambda connection: connection.fetch("SELECT repeat('x', 20000) FROM generate_series(1, 1000)")
        )
        assert sum(len(row[0]) for row in rows) == 20_000_000
        await link.close()


async def test_an_idle_link_closes_its_connection(database: Database, owner: Connection) -> None:
    link = Link(database.worker_dsn, application_name="linked", idle_timeout=0.1)
    await link.run(pid)
    count = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'linked'"
    await until(lambda: owner.fetchval(count), "the idle connection is closed")
    assert await link.run(pid)
    await link.close()


async def test_mistakes_pass_through_and_keep_the_connection(database: Database) -> None:
    link = a_link(database)
    first = await link.run(pid)
    with pytest.raises(asyncpg.UndefinedTableError):
        await link.run(lambda connection: connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(asyncpg.exceptions.PostgresSyntaxError):
        await link.run(lambda connection: connection.execute("SELEKT"))
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        await link.run(lambda connection: connection.fetch("SELECT $1::integer", "text"))
    assert await link.run(pid) == first
    await link.close()


async def test_work_is_done_one_piece_at_a_time(database: Database) -> None:
    link = a_link(database)
    busy = 0

    async def work(connection: Connection) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        await connection.fetchval("SELECT pg_sleep(0.01)")
        busy -= 1

    await asyncio.gather(*(link.run(work) for _ in range(5)))
    await link.close()


def links_of(database: Database, *, aside: str | None = None) -> Links:
    """Connections of one process whose shared ones may be held for a minute; the one aside may have another address."""
    names = ("claim", "finish", "aside", "beat", "pulse")
    return Links(
        **{
            name: Link(
                aside if name == "aside" and aside is not None else database.worker_dsn,
                application_name=f"linked {name}",
                limits=Limits(statement=60.0, lock=1.0),
            )
            for name in names
        }
    )


async def close(links: Links) -> None:
    for link in links.of_main_loop():
        await link.close()


async def application(connection: Connection) -> str:
    return await connection.fetchval("SELECT current_setting('application_name')")


@pytest.mark.parametrize("shared", ["claim", "finish"])
async def test_work_goes_aside_where_other_work_holds_the_connection(database: Database, shared: str) -> None:
    links = links_of(database)
    on = links.on_claim if shared == "claim" else links.on_finish
    assert await on(application) == f"linked {shared}"
    holder = asyncio.create_task(on(sleep))
    await until(lambda: getattr(links, shared).busy, "it is held")
    assert await on(application) == "linked aside"
    assert not holder.done()
    holder.cancel()
    await asyncio.wait({holder})
    assert await on(application) == f"linked {shared}"
    await close(links)


async def test_work_waits_its_turn_where_the_others_are_quick(
    database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowworker.database.link.BESIDE_AFTER", 30.0)  # quick even on a busy machine
    links = links_of(database)
    await links.on_claim(application)

    async def quick(connection: Connection) -> str:
        await asyncio.sleep(0.01)
        return await application(connection)

    assert set(await asyncio.gather(*(links.on_claim(quick) for _ in range(5)))) == {"linked claim"}
    assert not await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'linked aside'")
    await close(links)


async def test_all_work_goes_past_other_work_that_holds_the_connection(database: Database) -> None:
    links = links_of(database)
    holder = asyncio.create_task(links.claim.run(sleep))
    await until(lambda: links.claim.busy, "it is held")
    waiting = [asyncio.create_task(links.on_claim(application)) for _ in range(10)]
    done, _ = await asyncio.wait(waiting, timeout=10)
    assert [task.result() for task in done] == ["linked aside"] * 10
    assert not holder.done()
    holder.cancel()
    await asyncio.wait({holder})
    await close(links)


@pytest.mark.parametrize("freed", ["claim", "aside"])
async def test_work_takes_the_first_of_two_held_connections_that_is_free(database: Database, freed: str) -> None:
    links = links_of(database)
    holders = {name: asyncio.create_task(getattr(links, name).run(sleep)) for name in ("claim", "aside")}
    await until(lambda: links.aside.busy and links.claim.busy, "both are held")
    waiting = asyncio.create_task(links.on_claim(application))
    await asyncio.wait({waiting}, timeout=4 * BESIDE_AFTER)
    assert not waiting.done()
    holders[freed].cancel()
    assert await waiting == f"linked {freed}"
    for holder in holders.values():
        holder.cancel()
    await asyncio.wait(holders.values())
    assert [await link.run(application) for link in (links.claim, links.aside)] == ["linked claim", "linked aside"]
    await close(links)


async def test_work_cancelled_while_it_waits_for_a_connection_leaves_both_to_others(database: Database) -> None:
    links = links_of(database)
    holders = {name: asyncio.create_task(getattr(links, name).run(sleep)) for name in ("claim", "aside")}
    await until(lambda: links.aside.busy and links.claim.busy, "both are held")
    waiting = [asyncio.create_task(links.on_claim(application)) for _ in range(3)]
    await asyncio.wait(waiting, timeout=4 * BESIDE_AFTER)
    for one in (*waiting, *holders.values()):
        one.cancel()
    await asyncio.wait([*waiting, *holders.values()])
    assert all(one.cancelled() for one in waiting)
    assert await links.on_claim(application) == "linked claim"
    assert await links.aside.run(application) == "linked aside"
    await close(links)


@pytest.mark.parametrize("reason", ["none can be opened", "the role is refused"])
async def test_work_waits_where_no_more_connection_can_be_had(
    database: Database, unused_tcp_port: int, reason: str
) -> None:
    nothing_listens = f"postgresql://x@127.0.0.1:{unused_tcp_port}/x"
    refused = database.server.dsn(database.name, "unknown")
    links = links_of(database, aside=nothing_listens if reason == "none can be opened" else refused)
    holder = asyncio.create_task(links.claim.run(sleep))
    await until(lambda: links.claim.busy, "it is held")
    waiting = asyncio.create_task(links.on_claim(application))
    await asyncio.wait({waiting}, timeout=4 * BESIDE_AFTER)
    assert not waiting.done()
    holder.cancel()
    assert await waiting == "linked claim"
    await asyncio.wait({holder})
    await close(links)


async def test_a_connection_that_could_not_be_opened_helps_out_no_other_for_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "RETRY_PAUSE", 0.0)
    async with Proxy(database.server.port) as proxy:
        links = links_of(database, aside=f"{proxy.dsn(database.worker_dsn)}?connect_timeout=2")
        proxy.weather = Weather.SWALLOWED
        for tried in (True, False):
            holder = asyncio.create_task(links.claim.run(sleep))
            await until(lambda: links.claim.busy, "it is held")
            waiting = asyncio.create_task(links.on_claim(application))
            await asyncio.wait({waiting}, timeout=4 * BESIDE_AFTER)
            assert links.aside.busy is tried
            await until(lambda: not links.aside.busy, "it was given up")
            holder.cancel()
            assert await waiting == "linked claim"
            await asyncio.wait({holder})
        proxy.weather = Weather.CLEAR
        await links.aside.run(application)
        holder = asyncio.create_task(links.claim.run(sleep))
        await until(lambda: links.claim.busy, "it is held")
        assert await links.on_claim(application) == "linked aside"
        holder.cancel()
        await asyncio.wait({holder})
        await close(links)


async def test_work_does_not_begin_on_a_connection_that_has_died_in_silence(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "PROVEN_FOR", 0.0)
    async with Proxy(database.server.port) as proxy:
        links = links_of(database, aside=proxy.dsn(database.worker_dsn))
        await links.aside.run(application)
        proxy.weather = Weather.SWALLOWED
        holder = asyncio.create_task(links.claim.run(sleep))
        await until(lambda: links.claim.busy, "it is held")
        waiting = asyncio.create_task(links.on_claim(application))
        await until(lambda: links.aside.busy, "the one aside is tried")
        await until(lambda: not links.aside.busy, "it was given up")
        holder.cancel()
        assert await waiting == "linked claim"
        await asyncio.wait({holder})
        await close(links)


async def test_work_that_has_begun_aside_is_not_repeated(database: Database) -> None:
    links = links_of(database)
    begun: list[int] = []

    async def ends_its_session(connection: Connection) -> None:
        begun.append(await pid(connection))
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    holder = asyncio.create_task(links.claim.run(sleep))
    await until(lambda: links.claim.busy, "it is held")
    with pytest.raises(DatabaseUnavailableError):
        await links.on_claim(ends_its_session)
    assert len(begun) == 1
    holder.cancel()
    await asyncio.wait({holder})
    await close(links)


async def test_a_database_that_is_not_there_is_reported_once(unused_tcp_port: int) -> None:
    states: list[bool] = []
    link = Link(
        f"postgresql://x@127.0.0.1:{unused_tcp_port}/x",
        application_name="linked",
        on_state=lambda up, _: states.append(up),
    )
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            await link.run(pid)
    assert states == [False]


async def test_a_wrong_user_is_no_outage(database: Database) -> None:
    link = Link(database.server.dsn(database.name, "nobody_here"), application_name="linked")
    with pytest.raises(AuthenticationError):
        await link.run(pid)


async def test_a_read_only_database_is_an_outage(database: Database) -> None:
    link = a_link(database)

    async def write(connection: Connection) -> None:
        await connection.execute("SET default_transaction_read_only = on")
        await connection.execute("DELETE FROM flowworker.drains")

    with pytest.raises(DatabaseUnavailableError):
        await link.run(write)
    await link.close()


async def test_work_without_the_statement_cache(database: Database) -> None:
    link = a_link(database, statement_cache=False)
    assert await link.run(lambda connection: connection.fetchval("SELECT $1::integer", 5)) == 5
    await link.close()


async def test_users_of_a_link_that_cannot_connect_share_one_attempt_per_pause() -> None:
    """Poller, recovery and others use one link; each retries by itself, and the server must not feel that."""
    attempts = 0

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        link = Link(f"postgresql://nobody@127.0.0.1:{port}/none?sslmode=disable", application_name="linked")
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5 * RETRY_PAUSE
        failures = 0
        while loop.time() < end:
            with pytest.raises(DatabaseUnavailableError):
                await link.run(pid)
            failures += 1
            await asyncio.sleep(RETRY_PAUSE / 20)
        assert failures > attempts
        assert attempts <= 2


async def test_the_connection_string_is_asked_for_anew_before_each_connection(database: Database) -> None:
    given = ["postgresql://nobody:wrong@127.0.0.1:1/none", database.worker_dsn]
    asked: list[str] = []

    def rotated() -> str:
        asked.append(given[len(asked)])
        return asked[-1]

    link = Link(rotated, application_name="linked")
    with pytest.raises(DatabaseUnavailableError):
        await link.run(pid)
    await asyncio.sleep(RETRY_PAUSE)
    assert await link.run(pid) > 0
    assert asked == given
    await link.close()


async def test_a_connection_string_that_cannot_be_read_now_may_be_readable_later() -> None:
    def unreadable() -> str:
        raise UsageError("cannot read /run/secret/uri")

    with pytest.raises(DatabaseUnavailableError, match="cannot read"):
        await Link(unreadable, application_name="linked").run(pid)
