"""The log of a worker process: one JSON line for each thing said, whatever modules and handlers do about logging."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest
from testkit.support.waiting import until
from tests.acceptance.served import MODULE, serving
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli

from flowworker.database.jobs_admin import JobState

HEAD = """
import logging, logging.config, multiprocessing, os, sys, threading, warnings
from flowworker import Queue, TaskContext

users = Queue("users", max_attempts=1, timeout=60)
log = logging.getLogger("app")
"""

SILENCERS = {
    "dictConfig": "logging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR'}})",
    "dictConfig of root": "logging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR', 'handlers': []}})",
    "basicConfig": "logging.basicConfig(force=True, level='ERROR', format='%(message)s')",
    "disable": "logging.disable(logging.CRITICAL)",
    "handlers": "logging.getLogger().handlers.clear()",
    "levels": "logging.getLogger().setLevel('CRITICAL')",
}


@pytest.mark.parametrize("silencer", SILENCERS)
@pytest.mark.parametrize("place", ["module", "handler"])
async def test_no_configuration_of_logging_silences_the_worker(
    stage: Stage, cli: Cli, silencer: str, place: str
) -> None:
    at_import, in_handler = (SILENCERS[silencer], "pass") if place == "module" else ("", SILENCERS[silencer])
    module = f"{HEAD}{at_import}\n@users.job\ndef work(number: int, ctx: TaskContext) -> None:\n    {in_handler}\n"
    module += "    ctx.logger.info('by the context %d', number)\n    if number == 2: raise ValueError('no luck')\n"
    async with serving(stage, cli, module) as served:
        await served.do(1)
        await served.do(2)
        await served.stopped()
        events = served.events()
        assert {"worker started", "by the context 1", "by the context 2", "worker stopped"} <= set(events)
        assert "task completed" in events
        assert "task failed for good" in events


TALK = """
class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

class Careless:
    def __del__(self) -> None:
        raise ValueError("in a destructor")

circle = []
circle.append(circle)

def copy() -> None:
    logging.getLogger("app").warning("from a copy " + "x" * 3000)

def talk() -> str:
    log.info("at info", extra={"size": 5})
    log.warning("two\\nlines")
    warnings.warn("old thing")
    thread = threading.Thread(target=lambda: 1 / 0, name="of mine")
    thread.start()
    thread.join()
    Careless()
    log.error("odd", extra={
        "thing": Hostile(), "dsn": "postgres://me:hunter2@db/x", "deep": [{"dsn": "password=hunter2"}],
        "big": 1 << 80, "text": "\\udcff", "circle": circle, "kept": "yes",
    })
    log.error("%d of %s", "password=hunter2", Hostile())
    log.error(Hostile())
    try:
        raise ConnectionError("postgres://me:hunter2@db/x")
    except ConnectionError:
        log.exception("no database")
    copies = [multiprocessing.get_context("fork").Process(target=copy) for _ in range(4)]
    for one in copies: one.start()
    for one in copies: one.join()
    return "said"
"""

MODES = {
    "loop": "@users.job\nasync def work(_: int) -> str:\n    return talk()\n",
    "thread": "@users.job\ndef work(_: int) -> str:\n    return talk()\n",
    "process": "@users.job(run_in='process')\ndef work(_: int) -> str:\n    return talk()\n",
}


@pytest.mark.parametrize("mode", MODES)
async def test_everything_a_handler_makes_python_say_is_one_json_line_with_its_ids(
    stage: Stage, cli: Cli, mode: str
) -> None:
    async with serving(stage, cli, HEAD + TALK + MODES[mode]) as served:
        done = await served.do(1)
        assert done.result == "said", done.error
        await served.stopped()
        lines = {line["event"]: line for line in served.lines()}
        assert "hunter2" not in served.written
        for event, level in (
            ("at info", "info"),
            ("two\nlines", "warning"),
            ("odd", "error"),
            ("no database", "error"),
        ):
            line = lines[event]
            ids: dict[str, Any] = {
                "level": level,
                "logger": "app",
                "queue": MODULE,
                "msg_id": done.msg_id,
                "attempt": 1,
            }
            assert {name: line[name] for name in ids} == ids
        assert (lines["at info"]["size"], lines["odd"]["kept"]) == (5, "yes")
        assert "ZeroDivisionError" in lines["thread 'of mine' ended with an exception"]["exception"]
        assert any("old thing" in event for event in lines)
        assert any("Careless.__del__" in event for event in lines)
        assert "%d of %s (its arguments do not fit it)" in lines
        assert sum("from a copy" in event for event in served.events()) == 4


async def test_structlog_in_a_module_writes_the_same_lines_from_children(stage: Stage, cli: Cli) -> None:
    module = HEAD + "import structlog\n@users.job(run_in='process')\ndef work(_: int) -> str:\n"
    module += "    structlog.get_logger('app').info('structured', size=5)\n    return 'said'\n"
    async with serving(stage, cli, module) as served:
        done = await served.do(1)
        await served.stopped()
        (line,) = [line for line in served.lines() if line["event"] == "structured"]
        assert (line["size"], line["msg_id"], line["level"]) == (5, done.msg_id, "info")


async def test_a_log_without_a_reader_stops_no_work(stage: Stage, cli: Cli) -> None:
    """A pipe holds 64 KiB; a terminal that is paused, or a collector that hangs, holds no more."""
    module = HEAD + "@users.job\nasync def work(_: int) -> None:\n    log.warning('x' * 3000)\n"
    module += "    log.warning('x' * 20000)\n"
    (cli.folder / f"{MODULE}.py").write_text(module)
    await stage.owner.execute(f"SELECT pgmq.create('{MODULE}')")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowworker.cli", "run", f"{MODULE}:{MODULE}", stderr=writing, env=cli.variables(),
        cwd=cli.folder, start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    try:
        jobs = [await stage.client.send(MODULE, number) for number in range(60)]

        async def done() -> bool:
            assert process.returncode is None
            return (await stage.client.job(MODULE, jobs[-1])).state is JobState.DONE

        await until(done, "work that goes on")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 40) == 0
    finally:
        if process.returncode is None:
            process.kill()
        os.close(reading)
