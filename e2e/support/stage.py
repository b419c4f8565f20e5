"""What all scenarios of a session share: a cluster, an operator, a database server."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from e2e.support.postgres import Server
from e2e.support.release import Release
from testkit.cluster.backend import Backend
from testkit.support.kube import Kube
from testkit.support.programs import Programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Use `prepared`."""

    cluster: Backend
    programs: Programs
    release: Release
    server: Server
    disturbed: bool = False
    """Whether the operator is ended now and then, on purpose."""

    def with_disturbance(self) -> Self:
        """The same, for a scenario during which the operator ends on purpose."""
        return replace(self, disturbed=True)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.programs.kubeconfig


@contextmanager
def prepared(cluster: Backend, programs: Programs) -> Generator[Stage]:
    """PostgreSQL and the operator on a cluster that has the images; the operator is gone afterwards."""
    stage = Stage(
        cluster=cluster,
        programs=programs,
        release=Release(programs),
        server=Server(namespace="e2e-postgres"),
    )
    asyncio.run(_build_up(stage))
    try:
        yield stage
    finally:
        asyncio.run(stage.release.uninstall())


async def _build_up(stage: Stage) -> None:
    async with Kube.connect(stage.kubeconfig) as kube, asyncio.TaskGroup() as both:
        both.create_task(stage.release.install(kube))
        both.create_task(_start_server(stage, kube))


async def _start_server(stage: Stage, kube: Kube) -> None:
    await stage.server.deploy(kube)
    await stage.server.prepare(stage.programs)
