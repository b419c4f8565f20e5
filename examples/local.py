"""What the examples share: a database to try things on, and a worker beside it for as long as they run."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import BaseModel

from flowworker import Client, EventStream, Flow, Queue, Worker
from flowworker.database.connection import connect
from flowworker.database.install import install
from flowworker.database.local_server import DEVELOPMENT_SETTINGS, LocalServer
from flowworker.telemetry.events import TaskStopped

DSN_VARIABLE = "FLOWWORKER_DATABASE_URL"


def run_and_print(flow: Flow, start: BaseModel) -> None:
    """Run a flow once and print what became of it."""
    asyncio.run(_run(flow, start))


def send_and_print(queue: Queue, payloads: Sequence[BaseModel]) -> None:
    """Send jobs to a queue and print what became of them."""
    asyncio.run(_send(queue, payloads))


@asynccontextmanager
async def try_database() -> AsyncGenerator[str]:
    """The database named by the environment, or else a temporary one; with everything installed."""
    with _server() as dsn:
        connection = await connect(dsn, application_name="flowworker-examples")
        try:
            await install(connection)
        finally:
            await connection.close()
        yield dsn


@contextmanager
def _server() -> Generator[str]:
    if DSN_VARIABLE in os.environ:
        yield os.environ[DSN_VARIABLE]
        return
    with tempfile.TemporaryDirectory(prefix="flowworker-example-") as folder:
        # PostgreSQL may have to run as another user than ours, which must then be able to enter.
        Path(folder).chmod(0o755)
        with LocalServer(directory=Path(folder) / "server", settings=DEVELOPMENT_SETTINGS) as server:
            yield server.dsn()


async def _run(flow: Flow, start: BaseModel) -> None:
    async with try_database() as dsn, Worker(flow, dsn=dsn), Client(dsn) as client:
        run = await client.start(flow, start)
        ended = await client.wait(run.run_id, timeout=60)
        print(f"run {ended.run_id} of flow {flow.slug} is {ended.status}: {ended.output or ended.error}")


async def _send(queue: Queue, payloads: Sequence[BaseModel]) -> None:
    done: asyncio.Queue[TaskStopped] = asyncio.Queue()
    events = EventStream()
    events.subscribe(lambda event: done.put_nowait(event) if isinstance(event, TaskStopped) else None)
    async with try_database() as dsn, Worker(queue, dsn=dsn, events=events), Client(dsn) as client:
        sent = [await client.send(queue, payload) for payload in payloads]
        async with asyncio.timeout(60):
            for _ in sent:
                await done.get()
        for job in [await client.job(queue, msg_id) for msg_id in sent]:
            print(f"job {job.msg_id} of queue {queue.name}: {job.payload} -> {job.result}")
