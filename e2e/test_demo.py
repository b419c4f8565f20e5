"""The demo where it cannot go on: it ends in words, and nothing else; `make e2e-kind` has the demo where it can."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from examples.demo_cluster.town import NAMESPACE, RELEASE, SYSTEM, Town
from testkit.cluster.backend import Backend
from testkit.support import images
from testkit.support.kube import NAMESPACES, Kube
from testkit.support.programs import Programs
from tools.fetch_kubectl import helm, kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parent.parent
DEMO = [sys.executable, "-m", "examples.demo_cluster"]


@pytest.fixture
async def town(cluster: Backend) -> AsyncIterator[Town]:
    """A PostgreSQL that a demo has started. Its namespace goes, and the release unless others have installed it."""
    images.load(cluster, images.build())
    programs = Programs(cluster.kubeconfig, str(kubectl()), str(helm()))
    release = ("--namespace", SYSTEM)
    async with Kube.connect(cluster.kubeconfig) as kube:
        before = await programs.helm("list", *release, "--short")
        town = Town(kube=kube, programs=programs)
        await town.start_postgres()
        yield town
        if RELEASE not in before.split():
            await programs.helm("uninstall", RELEASE, *release)
        await kube.delete(NAMESPACES, None, NAMESPACE)


def run_demo() -> subprocess.CompletedProcess[str]:
    """All of it, as a user starts it."""
    return subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


async def test_a_hook_that_fails_ends_the_demo_in_one_line_and_the_log_of_its_job(town: Town) -> None:
    # The demo's database is a copy of this one, whose schema belongs to another than the owner of the copy.
    psql = ("exec", "postgres-0", "--", "psql", "--quiet", "--dbname=template1", "--command", "CREATE SCHEMA pgmq")
    await town.programs.kubectl("--namespace", NAMESPACE, *psql)
    demo = await asyncio.to_thread(run_demo)
    assert demo.returncode == 1, demo.stdout
    line, title, *log = demo.stderr.splitlines()
    assert line.startswith("error: helm: ")
    assert f"{RELEASE}-database-install" in line
    assert title == f"the log of job/{RELEASE}-database-install in {SYSTEM}:"
    assert "pgmq" in "".join(log)
    assert "Traceback" not in demo.stderr + demo.stdout
