"""The operator, installed from the chart, and what may be said about it after each test."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.support.postgres import RESTRICTED
from testkit.cluster.backend import Backend
from testkit.support.images import TAG
from testkit.support.kube import DEPLOYMENTS, NAMESPACES, PODS, Kube, Objects
from testkit.support.node import kill_operator
from testkit.support.programs import Programs
from testkit.support.waiting import until

CHART = Path(__file__).resolve().parents[2] / "charts" / "flowworker"
NAMESPACE = "flowworker-system"
RELEASE = "flowworker"
DEPLOYMENT = "flowworker-operator"
SELECTOR = "app.kubernetes.io/component=operator"
INSTALL_TIMEOUT = 120

SEVERE = frozenset({"error", "critical"})

ALLOWED: Sequence[re.Pattern[str]] = ()
"""Errors that the operator may log in the end-to-end tests, each with its reason."""


@dataclass(slots=True)
class Release:
    """One installation of the chart."""

    programs: Programs
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    _old_logs: list[str] = field(default_factory=list[str])

    async def install(self, kube: Kube, *, tag: str = TAG, replicas: int = 1) -> None:
        """Install or upgrade, and wait until the operators are ready and no others are left."""
        await kube.apply(NAMESPACES, None, {"metadata": {"name": NAMESPACE, "labels": RESTRICTED}})
        values = {"image.tag": tag, "databaseInstall.image.tag": tag, "replicas": str(replicas), **self.values}
        settings = [f"--set={name}={value}" for name, value in values.items()]
        await self.programs.helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--wait"),
            *("--timeout", f"{INSTALL_TIMEOUT}s", *settings),
            deadline=INSTALL_TIMEOUT + 30,
        )

        async def are_alone() -> bool:
            return len(await self.pods(kube)) == replicas

        # Helm waits for those that come, not for those that go.
        await until(are_alone, "the operators of before are gone", patience=INSTALL_TIMEOUT, every=0.5)

    async def uninstall(self) -> None:
        """Remove the release."""
        await self.programs.helm(
            "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", f"{INSTALL_TIMEOUT}s",
            deadline=INSTALL_TIMEOUT + 30,
        )  # fmt: skip

    async def pods(self, kube: Kube) -> Objects:
        """The operator's pods."""
        return await kube.list(PODS, NAMESPACE, labels=SELECTOR)

    async def kill(self, kube: Kube, cluster: Backend) -> None:
        """Kill the process, which cannot give its Lease back, and let the Deployment make another pod.

        In the same pod it would start again too, but later with each time. The log is kept.
        """
        for pod in await self.pods(kube):
            name = pod["metadata"]["name"]
            self._old_logs += await self._log(name)
            await kill_operator(cluster, pod)
            await kube.delete(PODS, NAMESPACE, name, grace=0)

    async def available(self, kube: Kube) -> None:
        """Wait until an operator is ready."""

        async def is_available() -> bool:
            found = await kube.get(DEPLOYMENTS, NAMESPACE, DEPLOYMENT)
            return found is not None and found.get("status", {}).get("availableReplicas", 0) >= 1

        await until(is_available, "the operator is available", patience=INSTALL_TIMEOUT, every=0.5)

    async def incarnations(self, kube: Kube) -> dict[str, int]:
        """Restarts by uid of the pod: equal before and after, unless the operator was ended."""
        return {
            pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))
            for pod in await self.pods(kube)
        }

    async def log(self, kube: Kube) -> list[str]:
        """Everything the operators have logged, also those that were killed."""
        lines = list(self._old_logs)
        for pod in await self.pods(kube):
            lines += await self._log(pod["metadata"]["name"])
        return lines

    async def _log(self, pod: str) -> list[str]:
        # A pod that is only just being started has no log yet.
        try:
            said = await self.programs.kubectl("--namespace", NAMESPACE, "logs", pod, "--container", "operator")
        except AssertionError:
            return []
        return said.splitlines()


def complaints(lines: Sequence[str], namespace: str) -> list[str]:
    """Errors among the lines that concern a namespace, or none in particular, and that are not allowed."""
    return [line for line in lines if _is_severe(line, namespace) and not any(one.search(line) for one in ALLOWED)]


def _is_severe(line: str, namespace: str) -> bool:
    try:
        entry: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return "Traceback" in line
    concerned = str(entry.get("namespace") or namespace)
    return concerned == namespace and (entry.get("level") in SEVERE or "exception" in entry)
