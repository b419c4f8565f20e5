"""What handlers do with processes, and what becomes of theirs when a worker is stopped, killed or out of patience."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from testkit.support.waiting import until
from tests.acceptance.served import serving
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli

from flowworker.cli.process_end import END_TIMEOUT
from flowworker.database.jobs_admin import JobState
from flowworker.errors import ExitCode
from flowworker.runtime.execution.families import process_table
from flowworker.telemetry.line_writer import FLUSH_TIMEOUT

GONE_WITHIN = 5.0
"""Seconds from the word "stopped" to the end of the process, as promised."""

HEAD = """
import asyncio, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from flowworker import Queue

users = Queue("users", max_attempts=1, timeout=60)
fork = multiprocessing.get_context("fork")

def double(number: int) -> int:
    return 2 * number

def forever() -> None:
    time.sleep(600)
"""

FORKS = """
def pool() -> int:
    with fork.Pool(2) as processes:  # leaving the block sends SIGTERM to each
        return sum(processes.map(double, [1, 20]))

def process() -> int:
    child = fork.Process(target=forever)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

def bare() -> int:
    child = os.fork()
    if child == 0:
        forever()
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def executor() -> int:
    with ProcessPoolExecutor(2, mp_context=fork) as processes:
        answer = sum(processes.map(double, [1, 20]))
        for one in processes._processes.values():
            one.terminate()
    return answer

def popen() -> int:
    child = subprocess.Popen(["sleep", "600"])
    child.terminate()
    return child.wait()

ways = {f.__name__: f for f in (pool, process, bare, executor, popen)}
"""

MODES = {
    "loop": "@users.job\nasync def work(way: str) -> int:\n    return ways[way]()\n",
    "thread": "@users.job\ndef work(way: str) -> int:\n    return ways[way]()\n",
    "process": "@users.job(run_in='process')\ndef work(way: str) -> int:\n    return ways[way]()\n",
}


@pytest.mark.parametrize("mode", MODES)
async def test_processes_that_a_handler_makes_and_ends_stop_no_worker(stage: Stage, cli: Cli, mode: str) -> None:
    async with serving(stage, cli, HEAD + FORKS + MODES[mode]) as served:
        for way, answer in (("pool", 42), ("process", -15), ("bare", -15), ("executor", 42), ("popen", -15)):
            done = await served.do(way)
            assert (done.result, done.error) == (answer, None), way
        assert "SIGTERM" not in served.written
        await served.stopped()


COPY = """
def fork_and_return() -> str:
    return "copy" if os.fork() == 0 else "original"
"""


@pytest.mark.parametrize(
    "handler",
    [
        "@users.job\nasync def work(_: int) -> str:\n    return fork_and_return()\n",
        "@users.job\ndef work(_: int) -> str:\n    return fork_and_return()\n",
        "@users.job(run_in='process')\ndef work(_: int) -> str:\n    return fork_and_return()\n",
    ],
    ids=["loop", "thread", "process"],
)
async def test_a_forked_copy_that_returns_from_the_handler_is_no_second_worker(
    stage: Stage, cli: Cli, handler: str
) -> None:
    async with serving(stage, cli, HEAD + COPY + handler) as served:
        for _ in range(3):
            assert (await served.do(0)).result == "original"
        workers = [
            entry for entry in process_table() if b"flowworker.cli" in _command(entry.pid) and _in(entry.pid, cli)
        ]
        assert [entry.pid for entry in workers] == [served.process.pid]
        await served.stopped()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _in(pid: int, cli: Cli) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == cli.folder
    except OSError:
        return False


SLOW = """
@users.job(run_in="process")
def work(seconds: float) -> str:
    Path("begun").touch()
    time.sleep(seconds)
    return "rested"
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_stop_signal_to_every_process_lets_process_handlers_finish(
    stage: Stage, cli: Cli, number: signal.Signals
) -> None:
    async with serving(stage, cli, HEAD + SLOW) as served:
        job = await served.send(1.5)
        await served.until((cli.folder / "begun").exists, "a handler that runs")
        served.signal_all(number)
        assert await served.ended() == 0, served.written
        done = await stage.client.job("users", job)
        assert (done.state, done.result, done.attempts) == (JobState.DONE, "rested", 1)


async def test_a_module_that_handles_sigterm_itself_keeps_its_process_handlers_alive(stage: Stage, cli: Cli) -> None:
    own = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
    async with serving(stage, cli, HEAD + own + SLOW) as served:
        job = await served.send(1.5)
        await served.until((cli.folder / "begun").exists, "a handler that runs")
        served.signal_all(signal.SIGTERM)
        assert await served.ended() == 0, served.written
        assert (await stage.client.job("users", job)).result == "rested"


async def test_a_stop_signal_that_hits_a_child_at_its_very_beginning_charges_nothing(stage: Stage, cli: Cli) -> None:
    """Before Python runs a line of ours the signal still ends it; another child is started."""
    (cli.folder / "sitecustomize.py").write_text(
        "import os, pathlib, signal, sys\n"
        "if any('child_main' in argument for argument in sys.orig_argv) and not pathlib.Path('hit').exists():\n"
        "    pathlib.Path('hit').touch()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    async with serving(stage, cli, HEAD + SLOW, PYTHONPATH=str(cli.folder)) as served:
        done = await served.do(0.0)
        assert (cli.folder / "hit").exists()
        assert (done.result, done.attempts) == ("rested", 1)


HELPED = """
def begun(helper: object) -> None:
    Path("begun").touch()
"""

HELPED_BY_PROGRAMS = {
    "loop": (
        "@users.job\nasync def work(_: int) -> None:\n"
        "    helper = await asyncio.create_subprocess_exec('sleep', '600')\n    begun(helper)\n"
        "    if await helper.wait(): raise RuntimeError('the helper failed')\n"
    ),
    "thread": (
        "@users.job\ndef work(_: int) -> None:\n    helper = subprocess.Popen(['sleep', '600'])\n    begun(helper)\n"
        "    if helper.wait(): raise RuntimeError('the helper failed')\n"
    ),
    "executor": (
        "@users.job\ndef work(_: int) -> None:\n    with ProcessPoolExecutor(1, mp_context=fork) as processes:\n"
        "        future = processes.submit(forever)\n        begun(future)\n        future.result()\n"
    ),
    "process": (
        "@users.job(run_in='process')\ndef work(_: int) -> None:\n"
        "    helper = subprocess.Popen(['sleep', '600'])\n    begun(helper)\n"
        "    if helper.wait(): raise RuntimeError('the helper failed')\n"
    ),
}


@pytest.mark.parametrize("mode", HELPED_BY_PROGRAMS)
async def test_a_stop_signal_that_ends_the_programs_of_a_handler_charges_nothing(
    stage: Stage, cli: Cli, mode: str
) -> None:
    async with serving(stage, cli, HEAD + HELPED + HELPED_BY_PROGRAMS[mode]) as served:
        job = await served.send(0)
        await served.until((cli.folder / "begun").exists, "a program that runs")
        served.signal_all(signal.SIGTERM)
        assert await served.ended() == 0, served.written
        back = await stage.client.job("users", job)
        assert (back.state, back.error) == (JobState.WAITING, None), served.written


FAMILY = """
@users.job(run_in="process")
def work(_: int) -> None:
    started = [
        subprocess.Popen(["sleep", "600"]),
        subprocess.Popen(["sh", "-c", "sleep 600; true"], process_group=0),
        subprocess.Popen(["sleep", "600"], start_new_session=True),
    ]
    forked = fork.Process(target=forever)
    forked.start()
    pids = [os.getpid(), forked.pid, *(one.pid for one in started)]
    Path("pids.draft").write_text(" ".join(map(str, pids)))
    Path("pids.draft").rename("pids")
    {then}
"""


async def family_of(cli: Cli) -> list[int]:
    """Process ids of the handler and of everything it started."""
    file = cli.folder / "pids"
    await until(file.exists, "a handler that has started processes")
    return [int(pid) for pid in file.read_text().split()]


async def gone(pids: list[int]) -> None:
    """Return once none of these runs."""
    await until(lambda: not set(pids) & {entry.pid for entry in process_table()}, "their end")


async def test_the_timeout_of_a_process_handler_ends_all_it_started(stage: Stage, cli: Cli) -> None:
    async with serving(stage, cli, HEAD.replace("timeout=60", "timeout=2") + FAMILY.format(then="forever()")) as served:
        job = await served.send(0)
        pids = await family_of(cli)
        assert (await served.over(job)).error == "Task timed out after 2s"
        await gone(pids)
        await served.stopped()


async def test_a_child_killed_for_its_memory_fails_at_once_and_takes_its_helpers_along(stage: Stage, cli: Cli) -> None:
    then = "os.kill(os.getpid(), signal.SIGKILL)"
    async with serving(stage, cli, HEAD + FAMILY.format(then=then)) as served:
        began = time.monotonic()
        job = await served.send(0)
        pids = await family_of(cli)
        failed = await served.over(job)
        assert failed.error == (
            "the handler's process was killed by SIGKILL (signal 9), as the kernel does when memory runs out"
        )
        assert time.monotonic() - began < 40  # and not its timeout
        *members, apart = pids  # a session of its own is found only while its parent lives
        os.kill(apart, signal.SIGKILL)
        await gone(members)
        await served.stopped()


async def test_nothing_is_left_of_a_worker_that_was_killed(stage: Stage, cli: Cli) -> None:
    async with serving(stage, cli, HEAD + FAMILY.format(then="forever()")) as served:
        await served.send(0)
        pids = await family_of(cli)
        os.kill(served.process.pid, signal.SIGKILL)
        await served.process.wait()
        await gone(pids)


async def test_a_child_notices_the_end_of_its_worker_while_another_process_holds_the_wire(
    stage: Stage, cli: Cli
) -> None:
    module = """
@users.job(type="busy", run_in="process")
def busy(_: dict[str, str]) -> None:
    Path("busy.draft").write_text(str(os.getpid()))
    Path("busy.draft").rename("busy")
    forever()

@users.job(type="forking")
def forking(_: dict[str, str]) -> int:
    child = fork.Process(target=forever, daemon=True)
    child.start()
    Path("held").write_text(str(child.pid))
    return child.pid
"""
    async with serving(stage, cli, HEAD + module) as served:
        await served.send({"type": "busy"})
        await until((cli.folder / "busy").exists, "a process handler")
        holder = await served.do({"type": "forking"})
        child = int((cli.folder / "busy").read_text())
        os.kill(served.process.pid, signal.SIGKILL)
        await served.process.wait()
        try:
            await gone([child])
        finally:
            os.kill(int(str(holder.result)), signal.SIGKILL)


STUCK = {
    "to_thread": (
        "@users.job\nasync def work(_: int) -> None:\n"
        "    await asyncio.wait({asyncio.ensure_future(asyncio.to_thread(time.sleep, 600))}, timeout=0.1)\n"
    ),
    "thread": (
        "@users.job\ndef work(_: int) -> None:\n"
        "    print('printed')\n    threading.Thread(target=forever, name='of a handler').start()\n"
    ),
    "hook at exit": ("import atexit\n@users.job\ndef work(_: int) -> None:\n    atexit.register(forever)\n"),
    "tasks": (
        "stubborn = set()\n"
        "async def swallow() -> None:\n"
        "    while True:\n"
        "        try:\n            await asyncio.sleep(600)\n"
        "        except asyncio.CancelledError:\n            pass\n"
        "@users.job\nasync def work(_: int) -> None:\n"
        "    stubborn.add(asyncio.ensure_future(swallow()))\n"
        "    threading.Thread(target=forever).start()\n"
    ),
}


@pytest.mark.parametrize("kind", STUCK)
@pytest.mark.parametrize("signals", [1, 4])
async def test_a_stopped_worker_is_gone_within_5_s_with_its_exit_code(
    stage: Stage, cli: Cli, kind: str, signals: int
) -> None:
    async with serving(stage, cli, HEAD + STUCK[kind]) as served:
        assert (await served.do(0)).error is None
        served.process.send_signal(signal.SIGTERM)
        await served.until(lambda: '"worker stopped"' in served.written, "the end of the work")
        for _ in range(signals - 1):
            with suppress(ProcessLookupError):  # gone already
                served.process.send_signal(signal.SIGTERM)
        assert END_TIMEOUT + FLUSH_TIMEOUT <= GONE_WITHIN
        assert await served.ended(3 * GONE_WITHIN) == 0  # the machine has other work, too
        assert all(line.get("level") != "error" for line in served.lines())
        assert ("printed" in served.printed) is (kind == "thread")  # what a pipe's buffer held


async def test_an_exit_code_of_a_failure_is_kept_with_threads_that_do_not_end(stage: Stage, cli: Cli) -> None:
    module = HEAD + "threading.Thread(target=forever).start()\n" + SLOW
    async with serving(stage, cli, module) as served:
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
    late = {"FLOWWORKER_START_TIMEOUT": "0.1", "FLOWWORKER_DATABASE_URL": "postgresql://missing@127.0.0.1:1/none"}
    answer = await Cli(folder=cli.folder, environment={**cli.environment, **late})("run", "users:users")
    assert answer.code == 69, answer.err


async def test_the_next_handler_of_a_child_finds_folder_umask_and_signals_as_they_were(stage: Stage, cli: Cli) -> None:
    module = """
@users.job(run_in="process")
def work(change: bool) -> list[str]:
    found = [os.getcwd(), oct(os.umask(0o022)), str(signal.getsignal(signal.SIGTERM)), str(os.getpid())]
    if change:
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        os.umask(0o777)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return found
"""
    async with serving(stage, cli, HEAD + module) as served:
        first = await served.do(True)
        second = await served.do(False)
        assert first.error is None
        assert second.result == first.result


async def test_files_named_like_modules_of_python_disturb_no_child(stage: Stage, cli: Cli) -> None:
    for name in ("queue", "select", "logging", "pickle", "signal"):
        (cli.folder / f"{name}.py").write_text("raise RuntimeError('not meant')\n")
    module = "import os\nfrom flowworker import Queue\nusers = Queue('users', max_attempts=1, timeout=60)\n"
    module += "@users.job(run_in='process')\ndef work(_: int) -> str:\n    return 'done'\n"
    async with serving(stage, cli, module, PYTHONSAFEPATH="1") as served:
        assert (await served.do(0)).result == "done"


async def test_a_module_that_changes_the_folder_is_found_by_its_children(stage: Stage, cli: Cli) -> None:
    module = HEAD + "os.chdir('/')\n@users.job(run_in='process')\ndef work(_: int) -> str:\n    return os.getcwd()\n"
    async with serving(stage, cli, module) as served:
        done = await served.do(0)
        assert (done.result, done.error) == ("/", None)


EXITS = """
async def leave() -> None:
    await asyncio.sleep(0)
    sys.exit(3)

async def interrupt() -> None:
    await asyncio.sleep(0)
    raise KeyboardInterrupt

async def gathered() -> None:
    await asyncio.gather(leave(), asyncio.sleep(600))

async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(interrupt())

async def in_the_background() -> str:
    task = asyncio.create_task(leave())
    await asyncio.wait({task})
    return "done"

@users.job
async def work(way: str) -> str:
    if way == "neighbour":
        await asyncio.sleep(3)
        return "undisturbed"
    return await globals()[way]()
"""


async def test_a_task_of_a_handler_that_exits_ends_neither_the_worker_nor_what_runs_beside_it(
    stage: Stage, cli: Cli
) -> None:
    async with serving(stage, cli, HEAD + EXITS) as served:
        neighbour = asyncio.create_task(served.do("neighbour"))
        gathered, grouped, background = [await served.do(way) for way in ("gathered", "grouped", "in_the_background")]
        assert "SystemExit(3)" in (gathered.error or "")
        assert "KeyboardInterrupt" in (grouped.error or "")
        assert background.result == "done"
        assert (await neighbour).result == "undisturbed"
        await served.stopped()


CANCELS = """
@users.job
async def work(name: str) -> str:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if name in ("all", task.get_name()):
            task.cancel()
    return "done"
"""


@pytest.mark.parametrize("name", ["all", "end of pool users", "keeper of users_Worker_1"])
async def test_a_handler_that_cancels_tasks_of_the_worker_ends_it_with_a_reason(
    stage: Stage, cli: Cli, name: str
) -> None:
    async with serving(stage, cli, HEAD + CANCELS) as served:
        await served.send(name)
        assert await served.ended() == ExitCode.INTERNAL
        assert "was cancelled from outside" in served.written
        states = await stage.owner.fetch("SELECT DISTINCT state FROM flowworker.workers")
        assert [row["state"] for row in states] == ["stopped"]
