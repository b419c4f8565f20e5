"""What the chart's pods run does what they are there for."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.chart.rendering import CHART, only, render
from tests.conftest import STRANGER_ROLE, WORKER_ROLE, Database

from flowworker.database.local_server import free_port
from flowworker_operator.health import HealthServer, Pulse
from flowworker_operator.metrics import Metrics

WELL = Pulse(stuck_for=0, blind_for=0, unwatched_for=0, watching=True, synced=True, able=True)
STARTING = Pulse(stuck_for=0, blind_for=0, unwatched_for=0, watching=False, synced=False, able=False)


@dataclass(slots=True)
class Operator:
    """Health and metrics of an operator, as it serves them."""

    address: str
    pulse: Pulse = WELL
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    port = free_port()
    served = Operator(address=f"http://127.0.0.1:{port}")
    server = HealthServer(port=port, pulse=lambda: served.pulse, registry=served.registry)
    await server.start()
    yield served
    await server.stop()


async def run(*command: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def run_the_test(address: str, patience: float) -> tuple[int | None, str]:
    (container,) = only(render(), "Pod")["spec"]["containers"]
    assert container["command"] == ["python3", "-c"]
    return await run(sys.executable, "-c", *container["args"], OPERATOR=address, PATIENCE=str(patience))


async def test_helm_test_succeeds_when_the_operator_is_ready(operator: Operator) -> None:
    Metrics(operator.registry)
    assert await run_the_test(operator.address, 30) == (0, "the operator is ready and serves metrics\n")


async def test_helm_test_fails_when_the_operator_does_not_become_ready(operator: Operator) -> None:
    operator.pulse = STARTING
    code, said = await run_the_test(operator.address, 0)
    assert code == 1
    assert f"{operator.address}/readyz: error: HTTP Error 503" in said


async def test_helm_test_fails_when_no_operator_answers() -> None:
    code, said = await run_the_test("http://127.0.0.1:9", 0)
    assert code == 1
    assert "http://127.0.0.1:9/readyz: error:" in said


async def test_helm_test_fails_when_something_else_answers(operator: Operator) -> None:
    code, said = await run_the_test(operator.address, 30)
    assert code == 1
    assert "has nothing of the operator" in said


async def test_the_install_job_prepares_a_database_and_prints_the_grants(database: Database, tmp_path: Path) -> None:
    roles = [WORKER_ROLE, STRANGER_ROLE]
    given = {"roles": roles, "clientRoles": roles, "adminRoles": roles, "runEvents": "all"}
    job = only(render({"databaseInstall": {"enabled": True, "secret": {"name": "a"}, **given}}), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (mount, _) = container["volumeMounts"]
    (tmp_path / "uri").write_text(database.dsn)
    arguments = [argument.replace(mount["mountPath"], str(tmp_path)) for argument in container["args"]]
    command = [str(Path(sys.executable).parent / name) for name in container["command"]]
    for _ in range(2):
        code, said = await run(*command, *arguments)
        assert code == 0, said
        for role in roles:
            assert f'GRANT SELECT, INSERT, UPDATE ON "pgflow"."runs" TO "{role}"' in said
            assert said.count(f'GRANT USAGE ON SCHEMA "pgflow" TO "{role}"') == 3, "one for each purpose"
        assert "announces: all" in said


def test_the_script_is_the_one_in_the_chart() -> None:
    (container,) = only(render(), "Pod")["spec"]["containers"]
    assert container["args"] == [(CHART / "files" / "test_ready.py").read_text()]
