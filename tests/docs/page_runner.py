"""Does what a page of the documentation says, block by block, in a folder and with a database of its own.

| first line of the block          | what happens                                                                     |
|----------------------------------|----------------------------------------------------------------------------------|
| ```` ```python title="x.py" ```` | written to that file; a module that is no test is imported                       |
| ```` ```python ````              | run as a program                                                                 |
| ```` ```bash ````                | run; must exit with 0, or with the code in `exit=`                               |
| ```` ```bash background ````     | kept running to the end of the page, where SIGTERM must end it with 0; the next  |
|                                  | block comes when the text in `ready=` has been printed                            |
| ```` ```bash make ````           | the make targets must exist; they have tests of their own                        |
| ```` ```bash parse ````          | needs what a test must not touch (a registry, Docker): only the syntax is checked |
| ```` ```sql ````                 | run in the database                                                              |
| ```` ```toml ````                | parsed                                                                           |
| ```` ```yaml ````                | manifests: every object must be valid for Kubernetes or for the operator         |
| ```` ```yaml values ````         | values of the chart: Helm must take them                                         |
| ```` ```text output ````         | every line must be in the output of the block before; `…` stands for anything    |
| ```` ```text diagram ````        | nothing to run                                                                   |

Any other block fails its page, so that nothing is left out silently.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml
from testkit.support.manifests import complaints
from tests.chart.rendering import CHART, run_helm
from tests.docs.fences import Fence

from flowworker.database.connection import connect

REPOSITORY = Path(__file__).parents[2]
BLOCK_TIMEOUT = 100
STOP_TIMEOUT = 20

QUICK = {"FLOWWORKER_MIN_POLL_INTERVAL": "0.1", "FLOWWORKER_MAX_POLL_INTERVAL": "0.1"}
"""The pages' workers need not be patient."""


class BlockFailed(AssertionError):  # noqa: N818 - a failure of the page, not an error of ours
    """A block did not do what the page says; the message holds its line, its text and what happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A block that runs until its page ends."""

    fence: Fence
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self) -> bool:
        """Whether the text that says so was printed in time."""
        deadline = time.monotonic() + BLOCK_TIMEOUT
        while self.fence.values["ready"] not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@dataclass(slots=True)
class PageRunner:
    """Runs the blocks of one page."""

    name: str
    folder: Path
    dsn: str
    output: str = ""
    """Of the last block that had one."""
    background: list["Background"] = field(default_factory=list["Background"])

    def run(self, fence: Fence) -> None:
        """Do what one block says.

        Raises:
            BlockFailed: it did not work.
        """
        kind = " ".join([fence.language, *sorted(fence.words)])
        actions: Mapping[str, Callable[[Fence], None]] = {
            "python": self._write if "title" in fence.values else self._program,
            "bash": lambda fence: self._execute(fence, ["bash", "-euo", "pipefail", "-c", fence.text]),
            "bash background": self._start,
            "bash make": lambda fence: self._execute(fence, ["bash", "-euc", _dry(fence)], folder=REPOSITORY),
            "bash parse": lambda fence: self._execute(fence, ["bash", "-n", "-c", fence.text]),
            "sql": lambda fence: asyncio.run(self._query(fence)),
            "toml": lambda fence: _discard(tomllib.loads(fence.text)),
            "yaml": self._check_manifests,
            "yaml values": self._check_values,
            "text output": self._compare,
            "text diagram": _discard,
        }
        if kind not in actions:
            self._fail(fence, f"nothing is known about a block {kind!r}; see tests/docs/page_runner.py")
        actions[kind](fence)

    def close(self) -> None:
        """End what runs in the background, newest first; it must end well."""
        for background in reversed(self.background):
            background.process.send_signal(signal.SIGTERM)
            try:
                code = background.process.wait(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                background.process.kill()
                code = background.process.wait()
            if code != 0:
                self._fail(background.fence, f"ended with {code} after SIGTERM\n{background.log.read_text()}")

    def _program(self, fence: Fence) -> None:
        (self.folder / "program.py").write_text(fence.text)
        self._execute(fence, [sys.executable, "program.py"])

    def _write(self, fence: Fence) -> None:
        path = self.folder / fence.values["title"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fence.text)
        if not path.name.startswith("test_"):
            self._execute(
                fence, [sys.executable, "-c", f"import {'.'.join(Path(fence.values['title']).with_suffix('').parts)}"]
            )

    def _execute(self, fence: Fence, command: list[str], folder: Path | None = None) -> None:
        done = subprocess.run(
            command, cwd=folder or self.folder, env=self._environment(), capture_output=True, check=False,
            timeout=BLOCK_TIMEOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.output = done.stdout.decode() + done.stderr.decode()
        if done.returncode != int(fence.values.get("exit", "0")):
            self._fail(fence, f"exit code {done.returncode}\n{self.output}")

    def _start(self, fence: Fence) -> None:
        log = self.folder / f"background-{len(self.background)}.log"
        with log.open("wb") as output:
            # `exec`, so that the signal reaches the program and not the shell before it.
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {fence.text}"], cwd=self.folder, env=self._environment(),
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        background = Background(fence=fence, process=process, log=log)
        self.background.append(background)
        if not background.wait_until_ready():
            self._fail(fence, f"never printed {fence.values['ready']!r}\n{log.read_text()}")

    async def _query(self, fence: Fence) -> None:
        connection = await connect(self.dsn, application_name="test")
        try:
            await connection.execute(fence.text)
        finally:
            await connection.close()

    def _compare(self, fence: Fence) -> None:
        for line in filter(None, map(str.strip, fence.text.splitlines())):
            pattern = ".*".join(re.escape(part) for part in re.sub(r"\s+", " ", line).split("…"))
            if not re.search(pattern, re.sub(r"[^\S\n]+", " ", self.output)):
                self._fail(fence, f"the output has no line {line!r}:\n{self.output}")

    def _check_manifests(self, fence: Fence) -> None:
        found = [complaint for item in yaml.safe_load_all(fence.text) for complaint in complaints(item)]
        if found:
            self._fail(fence, "\n".join(found))

    def _check_values(self, fence: Fence) -> None:
        done = run_helm("template", "page", str(CHART), values=yaml.safe_load(fence.text))
        if done.returncode != 0:
            self._fail(fence, done.stderr)

    def _environment(self) -> Mapping[str, str]:
        binaries = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **QUICK, "PATH": path, "FLOWWORKER_DATABASE_URL": self.dsn, "PYTHONUNBUFFERED": "1"}

    def _fail(self, fence: Fence, what: str) -> NoReturn:
        raise BlockFailed(f"{self.name}:{fence.line}: {what}\n--- the block\n{fence.text}")


def _dry(fence: Fence) -> str:
    return re.sub(r"^make\b", "make --dry-run", fence.text, flags=re.MULTILINE)


def _discard(_nothing_to_do: object) -> None:
    """For blocks that need no more than to be read."""
