"""Calling the command line as a process of its own, the way people do."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one call gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return orjson.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """Calls `flowworker` in a folder, with the database in its environment."""

    folder: Path
    dsn: str | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def variables(self) -> dict[str, str]:
        """The environment of a call: ours without settings, and the database."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        database = {} if self.dsn is None else {"FLOWWORKER_DATABASE_URL": self.dsn}
        return {**kept, "COLUMNS": "100", **database, **self.environment}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a call and leave it running."""
        return await self._python("-m", "flowworker.cli", *arguments)

    async def _python(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self.variables(), cwd=self.folder, start_new_session=True,
        )  # fmt: skip

    async def __call__(self, *arguments: str, stdin: str = "") -> Answer:
        """Call and wait for the end."""
        return await self._answer(await self.start(*arguments), stdin)

    async def python(self, *arguments: str) -> Answer:
        """Run a script in the same way."""
        return await self._answer(await self._python(*arguments), "")

    async def _answer(self, process: asyncio.subprocess.Process, stdin: str) -> Answer:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        assert process.returncode is not None
        return Answer(code=process.returncode, out=out.decode(), err=err.decode())


async def until_line(process: asyncio.subprocess.Process, text: str) -> str:
    """Read standard error until a line holds the text; give that line."""
    assert process.stderr is not None
    seen: list[str] = []
    async with asyncio.timeout(40):
        while line := (await process.stderr.readline()).decode():
            seen.append(line)
            if text in line:
                return line
    raise AssertionError(f"{text!r} never came: {''.join(seen)}")


def content(path: Path) -> str:
    """Text of a small file."""
    return path.read_text()
