"""A server that means no good costs the operator little memory, and the others little of its time."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from testkit.support.hostile import AT_START, IN_ANSWER, MIB, HostileServer, Misdeed, dear_password, many_rows
from testkit.support.waiting import hold_for, until
from tests.conftest import Database
from tests.integration.operator.observer import TIMEOUT, Observer, session, subject

from flowworker.database import probe
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database.interpret import target_of

MOST_MEMORY = 20 * MIB
MOST_BUSY = 0.1
"""Seconds for which one thing that a server sends may keep the event loop."""

OPERATOR = """
import asyncio, json, re, sys, time
from flowworker_operator.database import Key, Databases, Subject
from tests.integration.operator.observer import LOCAL, subject

def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) * 1024

async def main(good, bad):
    databases = Databases(clock=time.monotonic, on_reading=lambda key: None, known=LOCAL)
    ours, theirs = subject("one_step"), subject("other", namespace="elsewhere")
    databases.watch(ours, good)
    while databases.reading(ours.key) is None:
        await asyncio.sleep(0.01)
    before, busy = peak(), 0.0
    databases.watch(theirs, bad)
    fault = None
    for number in range(2000):
        used = time.thread_time()
        await asyncio.sleep(0.002)
        busy = max(busy, time.thread_time() - used)
        fault = databases.fault(theirs.key) or fault
        if fault is not None and number > 1000:
            break
    print(json.dumps({"memory": peak() - before, "busy": busy, "fault": fault and fault.message}))
    await databases.close()

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def operator(good: str, bad: str) -> AsyncGenerator[dict[str, Any]]:
    """What a process that reads a good and a bad database says of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OPERATOR, good, bad, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    assert process.returncode == 0
    yield json.loads(answer)


@pytest.mark.parametrize(
    ("misdeed", "at_start"),
    [*((one, True) for one in sorted(AT_START, key=str)), *((one, False) for one in sorted(IN_ANSWER, key=str))],
)
async def test_what_a_hostile_server_sends_costs_little_memory_and_time(
    database: Database, misdeed: Misdeed, at_start: bool
) -> None:
    server = HostileServer(misdeed, at_start=at_start)
    async with server.running() as bad, operator(database.worker_dsn, bad) as found:
        assert server.done, "it has happened"
        assert found["memory"] < MOST_MEMORY, found
        assert found["busy"] < MOST_BUSY, found
        assert "was ended: it" in found["fault"], found


async def test_a_server_whose_password_takes_long_to_check_is_connected_to_rarely(observer: Observer) -> None:
    server = HostileServer(dear_password, at_start=False)
    async with server.running() as dsn:
        observer.watch(dsn, subject("other"))
        await until(lambda: server.done, "the password is checked")
        await hold_for(6.0)  # it fails, and failures are tried again after two seconds at most
        assert server.done == 1
        await observer.databases.close()


async def test_a_good_database_is_read_beside_hostile_ones(observer: Observer, database: Database) -> None:
    good, bad = subject("one_step"), subject("other", namespace="elsewhere")
    async with HostileServer(many_rows, at_start=False).running() as dsn:
        observer.watch(dsn, bad)
        observer.watch(database.worker_dsn, good)
        await observer.reads(good)
        assert "more messages" in await observer.fails(bad, Reason.DATABASE_UNREACHABLE)
        await observer.reads(good)
        await observer.databases.close()


async def test_an_answer_for_many_that_is_too_large_is_asked_for_in_parts(
    observer: Observer, database: Database, owner: Any
) -> None:
    await owner.execute(
        "INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots, "
        "namespace, flowworker, pod_uid, last_error) SELECT gen_random_uuid(), gen_random_uuid(), 'flow', "
        "'f' || n % 4, 'w', '0', 'running', 1, 'shop', 'f' || n % 4, gen_random_uuid()::text, repeat('e', 500) "
        "FROM generate_series(1, 2800) n"
    )
    subjects = [subject(f"f{number}") for number in range(4)]
    observer.watch(database.worker_dsn, *subjects)

    def all_read() -> bool:
        return all((found := observer.databases.reading(one.key)) and len(found.reports) == 700 for one in subjects)

    await until(all_read, "everything is read", patience=30)


@pytest.mark.parametrize(
    ("workers", "drains", "words"),
    [
        ("'[' || repeat('{},', 200000) || '{}]'", "NULL", "no list of workers"),
        ("'[' || repeat('1,', 200000) || '1]'", "NULL", "no list of workers"),
        (
            "'[]'",
            "(SELECT json_object_agg(md5(n::text), 1) FROM generate_series(1, 20000) AS n)::text",
            "more drains than pods",
        ),
    ],
)
async def test_an_answer_that_would_grow_in_memory_is_not_taken_apart(
    database: Database, workers: str, drains: str, words: str
) -> None:
    target = target_of(subject("one_step"))
    types = ("text[]", "text[]", "bigint[]", "text[]", "text[]", "text[]", "text[]", "bigint", "bigint", "float8",
             "float8", "integer", "integer", "float8", "integer", "integer", "integer")  # fmt: skip
    text = f"""
        SELECT 0 AS visible, 0 AS startable, NULL AS oldest_startable_at, 0 AS delayed, NULL AS due_in, 0 AS in_flight,
            false AS in_flight_cut, 0 AS stalled, NULL AS longest_timeout, true AS queue_readable,
            false AS queue_per_step, ({drains})::jsonb AS drains, NULL AS options, false AS read_only, 1 AS layout,
            ({workers})::jsonb AS workers
        WHERE ({", ".join(f"${number}::{kind}" for number, kind in enumerate(types, 1))}) IS NOT NULL
    """
    connection = await session(database)
    question = await probe.prepare(connection, text, timeout=TIMEOUT)
    with pytest.raises(asyncpg.InterfaceError, match=words):
        await question.ask([target], timeout=TIMEOUT)
    await connection.close()
