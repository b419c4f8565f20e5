"""PostgreSQL restarts, crashes, refuses and forbids, under load: nothing is lost, and work goes on soon."""

import asyncio
import time
from collections.abc import Callable, Iterator

import asyncpg
import psutil
import pytest
from testkit.support.together import together
from testkit.support.waiting import LOOK_EVERY, PATIENCE, hold_for
from tests.chaos.arena import Arena, new_arena
from tests.chaos.ground import Ground
from tests.chaos.load import EXECUTIONS, customers, goes_on, put_load
from tests.chaos.workloads import fan, jobs
from tests.conftest import WORKER_ROLE

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer

ROUNDS = 10
FIRST_TASK_WITHIN = 10.0
"""Seconds from the moment the server accepts connections."""

FORBIDDEN = 15.0
"""Seconds; longer than leases of jobs last and than dead workers are given."""


def restart_fast(server: LocalServer) -> None:
    """As an administrator does."""
    server.restart("fast")


def restart_immediately(server: LocalServer) -> None:
    """Without a checkpoint: recovery from the log at the start."""
    server.restart("immediate")


def kill_postmaster(server: LocalServer) -> None:
    """As the kernel does when memory runs out; its children end when they notice."""
    postmaster = psutil.Process(server.postmaster_pid())
    family = [postmaster, *postmaster.children(recursive=True)]
    postmaster.kill()
    deadline = time.monotonic() + PATIENCE
    while any(_lives(process) for process in family):
        assert time.monotonic() < deadline, f"{family} live on without their postmaster"
        time.sleep(LOOK_EVERY)
    # Where no init collects orphans, the dead postmaster stays a zombie and its lock file looks valid.
    (server.data / "postmaster.pid").unlink(missing_ok=True)
    server.start()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


WAYS: tuple[Callable[[LocalServer], None], ...] = (restart_fast, restart_immediately, kill_postmaster)


@pytest.fixture
def own_arena() -> Iterator[Arena]:
    """A server of one test's own."""
    with new_arena() as arena:
        yield arena


async def test_a_server_restarted_or_killed_ten_times_under_load_loses_nothing(own_arena: Arena) -> None:
    async with own_arena.ground(fan, jobs) as ground:
        await ground.start_workers(*(ground.worker(name, "fan", "jobs") for name in ("one", "two")))
        async with customers(ground, 3):
            for number in range(ROUNDS):
                await _in_full_swing(ground)
                await asyncio.to_thread(WAYS[number % len(WAYS)], own_arena.server)
                accepting = time.monotonic_ns()
                await ground.reconnect()
                await put_load(ground, 2)
                await goes_on(ground, accepting, within=FIRST_TASK_WITHIN)
        await ground.conclude(patience=60)
        assert {report["state"] for report in await ground.reports()} == {"running"}


@together
async def test_a_backend_killed_in_the_middle_of_its_work_loses_nothing(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        await ground.start_workers(*(ground.worker(name, "fan", "jobs") for name in ("one", "two")))
        for _ in range(ROUNDS):
            await _in_full_swing(ground)
            await _end_connections(ground)
            await goes_on(ground, time.monotonic_ns(), within=FIRST_TASK_WITHIN)
        await ground.conclude()


@together
async def test_without_free_connections_workers_wait_and_go_on(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        limit = f"ALTER DATABASE {ground.database.name} CONNECTION LIMIT"
        await _forbids(ground, f"{limit} 1", f"{limit} -1")


@together
async def test_a_read_only_database_stops_work_until_it_is_writable_again(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        subject = f"ALTER ROLE {WORKER_ROLE} IN DATABASE {ground.database.name}"
        await _forbids(
            ground,
            f"{subject} SET default_transaction_read_only = on",
            f"{subject} RESET default_transaction_read_only",
        )


async def _forbids(ground: Ground, forbid: str, allow: str) -> None:
    """Two workers lose their connections and may not work for a while."""
    await ground.start_workers(*(ground.worker(name, "fan", "jobs") for name in ("one", "two")))
    await _in_full_swing(ground)
    await _as_superuser(ground, forbid)
    await _end_connections(ground)
    await put_load(ground, 3)
    await hold_for(FORBIDDEN)
    await _as_superuser(ground, allow)
    await goes_on(ground, time.monotonic_ns(), within=FIRST_TASK_WITHIN)
    await ground.conclude()
    assert {report["state"] for report in await ground.reports()} == {"running"}


async def _in_full_swing(ground: Ground) -> None:
    """New work, some of which has begun."""
    before = len(ground.executions())
    await put_load(ground, 3)
    await ground.began(before + EXECUTIONS)


async def _as_superuser(ground: Ground, statement: str) -> None:
    admin = await connect(ground.database.server.dsn(), application_name="test")
    try:
        await admin.execute(statement)
    finally:
        await admin.close()


async def _end_connections(ground: Ground) -> None:
    try:
        await ground.owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'flowworker %'"
        )
    except asyncpg.InsufficientPrivilegeError as error:
        raise AssertionError("the owner must be allowed to end the workers' connections") from error
