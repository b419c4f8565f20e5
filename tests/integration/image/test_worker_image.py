"""What the worker image promises, tried on the archive that `make image` leaves."""

import asyncio
import json
import os
import signal
import subprocess
import tomllib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Database
from tests.integration.image.conftest import Image
from tests.integration.image.container import USER, Container, run

from flowworker.client import Client
from flowworker.errors import UnknownFlowError
from flowworker.runtime.execution.families import family, process_table

pytestmark = [pytest.mark.image, pytest.mark.xdist_group("image"), pytest.mark.timeout(1200)]

IMAGE = "worker"

SOME_OTHER_USER = 1000710000
"""As clusters choose it that give every namespace its own range of users."""

FLOW = """
from flowworker import Flow

double = Flow("image_double")

@double.step
async def twice(number: int) -> int:
    return 2 * number
"""


def python(container: Container, code: str, user: int = USER) -> str:
    """Run Python code in the image; gives what it prints."""
    return run(container.command("-c", code, program="python", user=user))


def test_it_knows_its_version(image: Image, container: Container) -> None:
    version = tomllib.loads((image.source / "pyproject.toml").read_text())["project"]["version"]
    assert run(container.command("--version")).strip() == f"flowworker {version}"
    assert image.config["Labels"]["org.opencontainers.image.version"] == version


def test_it_asks_for_a_numeric_user_that_is_not_root(image: Image, container: Container) -> None:
    assert image.config["User"] == "65532:65532"
    assert python(container, "import os; print(os.getuid(), os.path.expanduser('~'))") == "65532 /home/flowworker\n"


@pytest.mark.parametrize("user", [USER, SOME_OTHER_USER])
def test_it_starts_for_any_user(container: Container, user: int) -> None:
    assert "run" in run(container.command("--help", user=user))


def test_nothing_is_written_at_start(container: Container) -> None:
    code = """
import os, sys
from flowworker.cli import main
main(["--help"])
print(os.listdir("/tmp"))
for place in ("/", "/app", "/home/flowworker", "/opt/flowworker/lib", "/var/tmp"):
    try:
        open(f"{place}/x", "w")
    except OSError:
        continue
    print("writable:", place)
"""
    assert python(container, code).splitlines()[-1] == "[]"


def test_everything_it_imports_at_start_is_compiled(container: Container) -> None:
    code = """
import os, sys
from importlib.util import cache_from_source
import flowworker.client, flowworker.cli.app, asyncpg, uvloop, orjson, prometheus_client, structlog, pydantic_settings
for name, module in sorted(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    if file.endswith(".py") and not os.path.exists(cache_from_source(file)):
        print(name)
"""
    assert python(container, code) == ""


def test_it_holds_no_tool_to_build_or_install_and_nothing_of_kubernetes(container: Container) -> None:
    code = """
import shutil
from importlib.util import find_spec
modules = ("pip", "setuptools", "wheel", "ensurepip", "hatchling", "kopf", "kubernetes", "pytest")
print([name for name in modules if find_spec(name)])
programs = ("gcc", "cc", "g++", "ld", "make", "pip", "pip3", "uv", "git", "curl", "wget")
print([name for name in programs if shutil.which(name)])
"""
    assert python(container, code) == "[]\n[]\n"


def test_it_brings_the_sql_of_pgmq_and_pgflow_with_their_licences(container: Container) -> None:
    code = """
from importlib.resources import files
upstream = files("flowworker.database") / "upstream"
print(all((upstream / name).is_file() for name in ("manifest.json", "pgmq/pgmq.sql", "pgmq/LICENSE", "pgflow/LICENSE")))
print(any(entry.name.endswith(".sql") for entry in (upstream / "pgflow").iterdir()))
"""
    assert python(container, code) == "True\nTrue\n"


def test_no_layer_holds_what_the_machine_gave_the_build(image: Image, container: Container) -> None:
    code = "import os; print(os.path.exists('/run/secrets/pip.conf'), os.path.exists('/etc/apt/sources.list'))"
    assert python(container, code) == "False False\n"
    assert "secrets" not in json.dumps(image.config)


async def test_a_mounted_flow_runs_and_sigterm_ends_it_cleanly(
    container: Container, database: Database, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "flows.py").write_text(FLOW)
    (app / "database").write_text(database.dsn)
    for path in (*tmp_path.parents[:2], tmp_path, app):
        path.chmod(0o755)
    command = container.command("run", "flows:double", "--database-file", "/app/database", mounts={app: "/app"})
    with running(command, tmp_path / "log") as process:
        output = await first_output(database, process)
    assert (output, process.returncode) == ({"twice": 42}, 0), (tmp_path / "log").read_text()


WITNESS = """
import os, pathlib, time
from flowworker import Flow

if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.2)  # an orphan, when it ends
    os._exit(0)
os.wait()
deadline = time.monotonic() + 20
while len([name for name in os.listdir("/proc") if name.isdigit()]) > 2 and time.monotonic() < deadline:
    time.sleep(0.05)
processes = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
commands = [pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in processes]
print(processes[0], commands)
double = Flow("image_double")

@double.step
async def twice(number: int) -> int:
    return 2 * number
"""


def mounted(folder: Path, program: str) -> Path:
    """A folder with a module `flows` that any user may read."""
    app = folder / "app"
    app.mkdir()
    (app / "flows.py").write_text(program)
    for path in (*folder.parents[:2], folder, app):
        path.chmod(0o755)
    return app


def test_its_first_process_is_an_init_that_collects_orphans(container: Container, tmp_path: Path) -> None:
    command = container.command("flows", "graph", "flows:double", mounts={mounted(tmp_path, WITNESS): "/app"})
    first = run(command).splitlines()[0]
    assert first.startswith("1 ['tini', ")
    assert first.count("'") == 4  # tini and the program, and no zombie


@pytest.mark.parametrize("attempt", range(3))
def test_sigterm_in_the_first_moments_of_a_container_ends_it(
    image: Image, container: Container, tmp_path: Path, attempt: int
) -> None:
    """Python as the first process would ignore it, and a pod would wait for its whole grace."""
    if image.engine != "buildah":
        pytest.skip(f"{image.engine} starts the container elsewhere, where its first moment is not seen")
    app = mounted(tmp_path, "import time\ntime.sleep(600)\n")
    command = container.command("flows", "graph", "flows:double", mounts={app: "/app"})
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while (init := init_of(process.pid)) is None:
                assert process.poll() is None
            os.kill(init, signal.SIGTERM)  # as a container runtime does; runc may lose one that it has to pass on
            assert process.wait(timeout=30) == 128 + signal.SIGTERM
        finally:
            process.kill()


def init_of(engine: int) -> int | None:
    """The first process of a container, once the program that it starts has begun, however little of it."""
    arguments = {pid: first_arguments(pid) for pid in family(engine, process_table()) - {engine}}
    if not any(b"flowworker" in found for found in arguments.values()):
        return None
    return next((pid for pid, found in arguments.items() if found.startswith(b"tini")), None)


def first_arguments(pid: int) -> bytes:
    """How a process was started: program and first argument; nothing when it has just ended."""
    try:
        return b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2])
    except OSError:
        return b""


@contextmanager
def running(command: Sequence[str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process that gets SIGTERM at the end and has half a minute to go."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield process
            process.terminate()
            process.wait(timeout=30)
        finally:
            process.kill()


async def first_output(database: Database, process: subprocess.Popen[bytes]) -> object:
    """Start a run as soon as the worker has compiled the flow; gives the run's output."""
    async with Client(database.dsn) as client, asyncio.timeout(40):
        while process.poll() is None:
            try:
                started = await client.start("image_double", 21)
            except UnknownFlowError:
                await asyncio.sleep(0.1)
                continue
            return (await client.wait(started.run_id)).output
    return None


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(image: Image) -> None:
    first = image.digest()
    image.build()
    assert image.digest() == first
