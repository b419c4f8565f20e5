"""The pieces that the demo puts into its cluster, each as a user would do it."""

import base64
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from testkit.support.forward import Forward
from testkit.support.kube import CONFIG_MAPS, FLOWWORKERS, NAMESPACES, PODS, SECRETS, Kube, Object
from testkit.support.programs import ProgramError, Programs
from testkit.support.waiting import until

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "charts" / "flowworker"

NAMESPACE, SYSTEM = "demo", "flowworker-system"
RELEASE = "flowworker"
HOOK = f"job/{RELEASE}-database-install"
NAME = "site-report"
TAG = "demo"
SUPERUSER_SECRET = "postgres-superuser"  # noqa: S105 - its name
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
POSTGRES_PORT = 5432
OWNER, WORKER = "site_owner", "site_worker"
DATABASE = "site"


class DemoError(Exception):
    """The demo cannot go on; says what went wrong in one line, and what those concerned have logged below it."""


@dataclass(slots=True, kw_only=True)
class Town:
    """A cluster with room for the demo."""

    kube: Kube
    programs: Programs
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    async def start_postgres(self) -> None:
        """A StatefulSet with a volume; two roles and a database in it."""
        await self._clear()
        for namespace in (NAMESPACE, SYSTEM):
            await self.kube.apply(NAMESPACES, None, {"metadata": {"name": namespace, "labels": RESTRICTED}})
        await self._write_secret(NAMESPACE, SUPERUSER_SECRET, {"password": self.password})
        await self._kubectl("apply", "--filename", str(HERE / "postgres.yaml"))
        await self._kubectl("rollout", "status", "statefulset/postgres", "--timeout=120s", deadline=130)
        statements = (
            f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)",
            *(f"DROP ROLE IF EXISTS {role}" for role in (OWNER, WORKER)),
            *(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}'" for role in (OWNER, WORKER)),
            f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
        )
        for statement in statements:
            await self._kubectl("exec", "postgres-0", "--", "psql", "--quiet", "--command", statement)
        await self._write_secret(NAMESPACE, "site-database", {"uri": self._dsn(WORKER)})
        for namespace in (NAMESPACE, SYSTEM):
            await self._write_secret(namespace, "site-database-owner", {"uri": self._dsn(OWNER)})

    async def install_operator(self) -> None:
        """The chart, whose hook installs pgmq, pgflow and our schema first.

        Raises:
            DemoError: helm failed; ends with the log of the hook's Job.
        """
        values = (
            *(f"image.tag={TAG}", f"databaseInstall.image.tag={TAG}", "databaseInstall.enabled=true"),
            *("databaseInstall.secret.name=site-database-owner", f"databaseInstall.roles={{{WORKER}}}"),
            # PostgreSQL is ready: what fails now fails again.
            "databaseInstall.backoffLimit=0",
        )
        try:
            await self.programs.helm(
                *("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "180s"),
                *(f"--set={value}" for value in values),
                deadline=200,
            )
        except ProgramError as error:
            raise DemoError(f"helm: {' '.join(error.said.split())}\n{await self._log_of_hook()}") from error

    async def apply_example(self) -> None:
        """The flow in a ConfigMap, and the FlowWorker."""
        flows: Object = {"metadata": {"name": "flows"}, "data": {"flows.py": (HERE / "flows.py").read_text()}}
        await self.kube.apply(CONFIG_MAPS, NAMESPACE, flows)
        await self._kubectl("apply", "--filename", str(HERE / "flowworker.yaml"))
        for state in ("condition=Ready", "jsonpath={.status.replicas}=0"):
            await self._kubectl("wait", f"flowworker/{NAME}", f"--for={state}", "--timeout=120s", deadline=130)

    async def read(self) -> Object:
        """The FlowWorker."""
        found = await self.kube.get(FLOWWORKERS, NAMESPACE, NAME)
        assert found is not None, f"the FlowWorker {NAME} was deleted"
        return found

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[str]:
        """Connection string of the owner for this machine, as long as the block lasts."""
        forward = Forward(self.programs, NAMESPACE, "postgres", POSTGRES_PORT)
        try:
            yield f"postgresql://{OWNER}:{self.password}@127.0.0.1:{await forward.open()}/{DATABASE}"
        finally:
            await forward.close()

    async def _log_of_hook(self) -> str:
        """What the Job has said that installs the database's part, or why that cannot be shown."""
        try:
            said = await self.programs.kubectl("--namespace", SYSTEM, "logs", HOOK, "--tail=40")
        except ProgramError as error:
            said = error.said
        return f"the log of {HOOK} in {SYSTEM}:\n{indent(said.rstrip(), '  ')}"

    async def _clear(self) -> None:
        """Remove what an earlier demo on this cluster has left; its PostgreSQL stays, for it has the volume."""
        await self.kube.delete(FLOWWORKERS, NAMESPACE, NAME)

        async def no_worker() -> bool:
            return not await self.kube.list(PODS, NAMESPACE, labels=f"flowworker.dev/name={NAME}")

        await until(no_worker, "the workers of the demo before are gone", patience=120, every=0.5)
        secret = await self.kube.get(SECRETS, NAMESPACE, SUPERUSER_SECRET)
        if secret is not None:
            self.password = base64.b64decode(secret["data"]["password"]).decode()

    async def _write_secret(self, namespace: str, name: str, values: dict[str, str]) -> None:
        await self.kube.apply(SECRETS, namespace, {"metadata": {"name": name}, "stringData": values})

    async def _kubectl(self, *arguments: str, deadline: float = 60.0) -> None:
        await self.programs.kubectl("--namespace", NAMESPACE, *arguments, deadline=deadline)

    def _dsn(self, role: str) -> str:
        return f"postgresql://{role}:{self.password}@postgres.{NAMESPACE}.svc:{POSTGRES_PORT}/{DATABASE}"
