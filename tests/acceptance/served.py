"""A worker process of the command line that serves a user's module, with all that it writes in files."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import orjson
from testkit.support.waiting import until
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli

from flowworker.database.jobs_admin import Job, JobState
from flowworker.runtime.execution.families import family, process_table

MODULE = "users"
"""Name of the module and of its queue."""


@dataclass
class Served:
    """The process, and its words."""

    stage: Stage
    process: asyncio.subprocess.Process
    folder: Path

    @property
    def written(self) -> str:
        """Standard error."""
        return (self.folder / "err").read_text()

    @property
    def printed(self) -> str:
        """Standard output."""
        return (self.folder / "out").read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log; fails when anything else was written among it."""
        return [orjson.loads(line) for line in self.written.splitlines()]

    def events(self) -> list[str]:
        """What the log lines say."""
        return [line["event"] for line in self.lines()]

    async def says(self, text: str) -> None:
        """Return once a text is in the log."""
        await self.until(lambda: text in self.written, f"{text!r} in the log")

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition; fail with the log when the process ends before."""

        def look() -> object:
            if condition():
                return True
            assert self.process.returncode is None, self.written
            return False

        await until(look, what)

    async def send(self, payload: Any) -> int:
        """Send a job."""
        return await self.stage.client.send(MODULE, payload)

    async def over(self, job: int) -> Job:
        """A job once it is done or has failed."""

        async def look() -> Job | None:
            assert self.process.returncode is None, self.written
            found = await self.stage.client.job(MODULE, job)
            return found if found.state in {JobState.DONE, JobState.FAILED, JobState.ARCHIVED} else None

        return await until(look, f"the end of job {job}", patience=40)

    async def do(self, payload: Any) -> Job:
        """Send a job and wait for its end."""
        return await self.over(await self.send(payload))

    async def error_reported(self) -> None:
        """Return once the report in the database holds the last error."""

        async def look() -> object:
            return await self.stage.owner.fetchval("SELECT count(last_error) FROM flowworker.workers")

        await until(look, "a report with an error")

    def signal_all(self, number: signal.Signals) -> None:
        """As systemd does: to every process of the unit."""
        for pid in family(self.process.pid, process_table()):
            os.kill(pid, number)

    async def ended(self, patience: float = 40) -> int:
        """The exit code."""
        return await asyncio.wait_for(self.process.wait(), patience)

    async def stopped(self) -> None:
        """Stop it, and see it end well."""
        self.process.send_signal(signal.SIGTERM)
        assert await self.ended() == 0, self.written


@asynccontextmanager
async def serving(
    stage: Stage,
    cli: Cli,
    module: str,
    *,
    targets: tuple[str, ...] = (f"{MODULE}:{MODULE}",),
    before: tuple[str, ...] = (),
    form: str = "json",
    more: Mapping[str, str] | None = None,
    **environment: str,
) -> AsyncGenerator[Served]:
    """Serve the queue `users` of a module with this text, or the targets given."""
    (cli.folder / f"{MODULE}.py").write_text(dedent(module))
    await stage.owner.execute(f"SELECT pgmq.create('{MODULE}')")
    with (cli.folder / "out").open("wb") as out, (cli.folder / "err").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *before, sys.executable, "-m", "flowworker.cli", "run", *targets,
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
            env={**cli.variables(), **environment, **(more or {})}, cwd=cli.folder, start_new_session=True,
        )  # fmt: skip
    served = Served(stage, process, cli.folder)
    try:
        await served.says('"worker started"' if form == "json" else "worker started")
        yield served
    finally:
        for pid in family(process.pid, process_table()):
            os.kill(pid, signal.SIGKILL)
        await process.wait()
