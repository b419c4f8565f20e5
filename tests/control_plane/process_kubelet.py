"""A kubelet for the control-plane tier, which has no node: pods of one namespace run as processes of this machine.

Not a simulation of workers but of their surroundings: the process is `flowworker run` with the pod's environment and
secrets, SIGTERM and a grace period at the end, restarts with back-off, readiness by its own probe.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testkit.cluster.api import MERGE, Api
from testkit.cluster.errors import ApiError
from tests.control_plane.process_pod import LOOK_EVERY, ProcessPod

HEARTBEAT = 5.0
"""Seconds between two signs of life of the node, without which its pods would be called not ready."""

Object = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class ProcessKubelet:
    """Runs the pods of a namespace from the beginning of an `async with` block to its end."""

    api: Api
    namespace: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """For all workers, on top of what their pods say."""
    pods: dict[str, ProcessPod] = field(default_factory=dict[str, ProcessPod])
    """By uid; those that have ended stay."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])
    _loops: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    @property
    def node(self) -> str:
        """Name of the node that this kubelet pretends to be."""
        return f"node-{self.namespace}"

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.api.create, "/api/v1/nodes", {"metadata": {"name": self.node}})
        self._loops = [asyncio.create_task(self._beat()), asyncio.create_task(self._work())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for pod in self.pods.values():
            pod.abandon()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.to_thread(self.api.delete, f"/api/v1/nodes/{self.node}")

    def living(self) -> list[ProcessPod]:
        """Pods whose worker runs now."""
        return [pod for pod in self.pods.values() if pod.process is not None and pod.process.returncode is None]

    def logs(self) -> str:
        """What all workers have written, for the report of a failed test."""
        return "\n".join(f"--- {pod.name}\n{pod.log()}" for pod in self.pods.values())

    async def _beat(self) -> None:
        """The node says that it is well."""
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "Ready", "status": "True", "reason": "Fine", "lastHeartbeatTime": now}
            await self._quietly("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": {"conditions": [condition]}})
            await asyncio.sleep(HEARTBEAT)

    async def _work(self) -> None:
        while True:
            listed = await self._quietly("GET", self._path(""))
            for pod in () if listed is None else listed["items"]:
                await self._see(pod)
            await asyncio.sleep(LOOK_EVERY)

    async def _see(self, pod: Object) -> None:
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        if "nodeName" not in pod["spec"] and (obstacle := await self._unschedulable(pod)):
            refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": obstacle}
            await self._quietly(
                "PATCH", self._path(f"/{metadata['name']}/status"), {"status": {"conditions": [refused]}}
            )
        elif "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
            binding = {"metadata": {"name": metadata["name"]}, "target": target}
            await self._quietly("POST", self._path(f"/{metadata['name']}/binding"), binding)
        elif "deletionTimestamp" in metadata:
            if f"end of {uid}" not in self._tasks:
                self._tasks[f"end of {uid}"] = asyncio.create_task(self._end(pod))
        elif uid not in self.pods:
            self._begin(pod)

    async def _unschedulable(self, pod: Object) -> str | None:
        """Why the scheduler, which this tier does not have, would find no node; in its words."""
        if pod["spec"].get("nodeSelector"):
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        for volume in pod["spec"].get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            path = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{claim}"
            if claim and await self._quietly("GET", path) is None:
                return f'0/1 nodes are available: persistentvolumeclaim "{claim}" not found.'
        return None

    def _begin(self, pod: Object) -> None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]

        async def report(status: Object) -> None:
            await self._quietly("PATCH", self._path(f"/{name}/status"), {"metadata": {"uid": uid}, "status": status})

        async def secret(secret_name: str) -> Object | None:
            return await self._quietly("GET", f"/api/v1/namespaces/{self.namespace}/secrets/{secret_name}")

        async def config_map(map_name: str) -> Object | None:
            return await self._quietly("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{map_name}")

        async def warn(reason: str, message: str) -> None:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            event = {
                "metadata": {"generateName": f"{name}."}, "involvedObject": {
                    "apiVersion": "v1", "kind": "Pod", "namespace": self.namespace, "name": name, "uid": uid,
                },
                "type": "Warning", "reason": reason, "message": message, "source": {"component": "kubelet"},
                "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            }  # fmt: skip
            await self._quietly("POST", f"/api/v1/namespaces/{self.namespace}/events", event)

        self.pods[uid] = made = ProcessPod(
            pod=pod, folder=self.folder / name, environment=self.environment,
            secret=secret, config_map=config_map, report=report, warn=warn,
        )  # fmt: skip
        self._tasks[uid] = asyncio.create_task(made.run())

    async def _end(self, pod: Object) -> None:
        """As kubelet: signal the worker, wait, then let the object go."""
        metadata = pod["metadata"]
        known = self.pods.get(metadata["uid"])
        if known is not None:
            await known.stop(float(metadata.get("deletionGracePeriodSeconds", 30)))
            await self._tasks[metadata["uid"]]
            await known.report_end()
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                   "preconditions": {"uid": metadata["uid"]}}  # fmt: skip
        await self._quietly("DELETE", self._path(f"/{metadata['name']}"), options)

    def _path(self, rest: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods{rest}"

    async def _quietly(self, method: str, path: str, body: Object | None = None) -> Object | None:
        """A request whose failure only means that the next look will do better: the object or the server is gone."""
        kind = MERGE if method == "PATCH" else "application/json"
        with contextlib.suppress(ApiError, OSError):
            return await asyncio.to_thread(self.api.request, method, path, body, kind)
        return None
