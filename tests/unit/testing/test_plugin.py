"""The pytest plugin, used by tests of another project."""

import subprocess
import sys
import textwrap

import pytest

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer

pytest_plugins = ("pytester",)

FLOW = """
    from flowworker import Client, Flow, Queue

    greeting = Flow("greeting", base_delay=0)

    @greeting.step
    async def text(name: str) -> str:
        return f"Hello, {name}!"

    mail = Queue("mail")

    @mail.job
    async def send(address: str) -> str:
        return f"sent to {address}"
"""

SYNCHRONOUS = """
    from flows import greeting, text
    from flowworker.testing import FlowDatabase, run_flow, run_step

    def test_step() -> None:
        assert run_step(text, "Ada") == "Hello, Ada!"

    def test_flow() -> None:
        assert run_flow(greeting, "Ada").output == {"text": "Hello, Ada!"}

    def test_on_postgres(flow_db: FlowDatabase) -> None:
        run = flow_db.run_flow(greeting, "Ada")
        assert (run.status, run.output) == ("completed", {"text": "Hello, Ada!"})
"""

ASYNCHRONOUS = """
    import asyncio

    import pytest
    from flows import greeting, mail
    from flowworker.testing import FlowDatabase

    @pytest.mark.asyncio
    async def test_a_worker_beside_the_test(flow_db: FlowDatabase) -> None:
        async with flow_db.worker(greeting, mail), flow_db.client() as client:
            job_id = await client.send(mail, "ada@example.org")
            run = await client.start(greeting, "Ada")
            assert (await client.wait(run.run_id, timeout=30)).output == {"text": "Hello, Ada!"}
            async with asyncio.timeout(30):
                while (await client.job(mail, job_id)).result is None:
                    await asyncio.sleep(0.05)

    @pytest.mark.asyncio
    async def test_the_next_test_has_a_database_of_its_own(flow_db: FlowDatabase) -> None:
        async with flow_db.client() as client:
            assert await client.runs() == []
        assert (await flow_db.run_flow_async(greeting, "Bob")).output == {"text": "Hello, Bob!"}
"""


WITH_ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")
HEAVY = "{'asyncio', 'asyncpg', 'pydantic'} & sys.modules.keys()"


def run_tests(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(flows=textwrap.dedent(FLOW), test_it=textwrap.dedent(source))
    return pytester.runpytest_subprocess("-W", "error", "-p", "no:randomly", "-p", "no:looptime_plugin", *arguments)


def on_this_server(monkeypatch: pytest.MonkeyPatch, postgres: LocalServer) -> None:
    monkeypatch.setenv("FLOWWORKER_TEST_DATABASE_URL", postgres.dsn())


async def databases_left(postgres: LocalServer) -> list[str]:
    connection = await connect(postgres.dsn(), application_name="test")
    try:
        rows = await connection.fetch(
            r"SELECT datname FROM pg_database WHERE datname ~ '^flowworker_(test|template)_[0-9a-f]{12}$'"
        )
    finally:
        await connection.close()
    return [row["datname"] for row in rows]


async def test_plain_functions_need_no_asyncio_plugin(
    pytester: pytest.Pytester, postgres: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_this_server(monkeypatch, postgres)
    run_tests(pytester, SYNCHRONOUS, "-p", "no:asyncio").assert_outcomes(passed=3)
    assert await databases_left(postgres) == []


async def test_coroutines_get_a_fresh_database_and_workers(
    pytester: pytest.Pytester, postgres: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_this_server(monkeypatch, postgres)
    run_tests(pytester, ASYNCHRONOUS, *WITH_ASYNCIO).assert_outcomes(passed=2)
    assert await databases_left(postgres) == []


def test_without_a_server_an_embedded_one_is_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOWWORKER_TEST_DATABASE_URL", raising=False)
    run_tests(pytester, SYNCHRONOUS, *WITH_ASYNCIO).assert_outcomes(passed=3)


def test_a_server_that_does_not_answer_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWWORKER_TEST_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    result = run_tests(pytester, SYNCHRONOUS, *WITH_ASYNCIO)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*DatabaseUnavailableError*"])


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    heavy = "sorted({'asyncio', 'asyncpg', 'pydantic'} & sys.modules.keys())"
    before, after = (
        subprocess.run([sys.executable, "-c", f"import {modules}; print({heavy})"], capture_output=True, check=True)
        for modules in ("sys, pytest", "sys, pytest, flowworker.testing.plugin")
    )
    assert before.stdout == after.stdout


def test_every_name_of_the_package_is_there() -> None:
    import flowworker.testing as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name
