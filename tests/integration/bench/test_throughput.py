"""What the benchmark measures still works with the statements that workers have today."""

from collections.abc import AsyncIterator
from itertools import product

import pytest
from tests.conftest import LocalServer

from flowworker.bench.place import own_database
from flowworker.bench.throughput import Kind, Side, Site, measure

TASKS = 60


@pytest.fixture
async def site(postgres: LocalServer) -> AsyncIterator[Site]:
    """A database for the benchmark on the shared server."""
    async with own_database(postgres.dsn()) as made:
        yield made


async def test_the_floor_and_the_worker_empty_flows_and_queues(site: Site) -> None:
    for kind, side in product(Kind, Side):
        done = await measure(site, kind, side, concurrency=5, tasks=TASKS)
        assert (done.tasks, done.rate > 0) == (TASKS, True), (kind, side)
