"""A FlowWorker of a test: what it asks for, and waiting for what becomes of it."""

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from testkit.support.kube import FLOWWORKERS, PODS, Kube, Object, Objects
from testkit.support.waiting import until

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

LOOK_EVERY = 0.3
PATIENCE = 90.0
"""Seconds: a pod starts in two to four when the machine does little else, and in half a minute when it is busy."""

NAME_LABEL, REVISION_LABEL = "flowworker.dev/name", "flowworker.dev/revision"
FLOWS, DATABASE = "flows", "database"
"""ConfigMap with the module of the handlers, and Secret with the connection string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What could be seen at one moment."""

    at: float
    """Monotonic seconds."""
    status: Mapping[str, Any]
    pods: Objects

    @property
    def desired(self) -> int | None:
        """Workers that the operator wants."""
        return self.status.get("scaling", {}).get("desired")

    def ready(self, revision: str | None = None) -> int:
        """Pods that are ready and not on their way out."""
        return sum(
            is_ready(pod) and not is_ending(pod)
            for pod in self.pods
            if revision in {None, pod["metadata"]["labels"].get(REVISION_LABEL)}
        )


@dataclass(slots=True, kw_only=True)
class FlowWorker:
    """One resource."""

    kube: Kube
    namespace: str
    name: str
    spec: Object

    def changed(self, changes: Mapping[str, Any]) -> Object:
        """The spec with some fields replaced, to any depth."""
        return merged(self.spec, changes)

    @property
    def manifest(self) -> Object:
        """As a user would write it."""
        return {
            "apiVersion": FLOWWORKERS.api_version,
            "kind": FLOWWORKERS.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": self.spec,
        }

    async def apply(self, **changes: Any) -> None:
        """Apply it, after changing some fields of its spec for good."""
        self.spec = self.changed(changes)
        await self.kube.apply(FLOWWORKERS, self.namespace, self.manifest)

    def template_with(self, **variables: str) -> Object:
        """Its pod template with more environment variables: another revision that works just as well."""
        template = copy.deepcopy(self.spec["template"])
        entries = [{"name": name, "value": value} for name, value in variables.items()]
        template["spec"]["containers"][0]["env"] = entries
        return template

    async def scale(self, replicas: int) -> None:
        """What `kubectl scale` does."""
        await self.kube.patch(FLOWWORKERS, self.namespace, self.name, {"spec": {"replicas": replicas}}, "scale")

    async def delete(self) -> None:
        """Delete it; its pods drain on their own."""
        await self.kube.delete(FLOWWORKERS, self.namespace, self.name)

    async def read(self) -> Object:
        """The resource."""
        found = await self.kube.get(FLOWWORKERS, self.namespace, self.name)
        assert found is not None, f"FlowWorker {self.name} does not exist"
        return found

    async def status(self) -> Mapping[str, Any]:
        """Its status; empty until the operator has seen it."""
        return (await self.read()).get("status", {})

    async def pods(self) -> Objects:
        """Its pods, also those on their way out."""
        found = await self.kube.list(PODS, self.namespace, labels=f"{NAME_LABEL}={self.name}")
        return [pod for pod in found if pod["status"].get("phase") not in {"Succeeded", "Failed"}]

    async def becomes(
        self, condition: str, status: str, *reasons: str, patience: float = PATIENCE
    ) -> Mapping[str, Any]:
        """Wait for a condition about the spec as it is now, with one of the reasons if any are given."""
        seen: Mapping[str, Any] = {}

        async def holds() -> Mapping[str, Any] | None:
            nonlocal seen
            resource = await self.read()
            seen = resource.get("status", {})
            generation = resource["metadata"]["generation"]
            return next(
                (
                    one
                    for one in seen.get("conditions", ())
                    if (one["type"], one["status"], one["observedGeneration"]) == (condition, status, generation)
                    and (not reasons or one["reason"] in reasons)
                ),
                None,
            )

        wanted = f"{condition}={status} {' or '.join(reasons)} of {self.name}"
        try:
            return await until(holds, wanted, patience=patience, every=LOOK_EVERY)
        except AssertionError as error:
            raise AssertionError(f"{error}; its status: {seen}; its pods: {_pod_lines(await self.pods())}") from None

    async def shows(self, what: str, holds: Callable[[Frame], object], *, patience: float = PATIENCE) -> Frame:
        """Wait until status and pods are as wanted."""
        frame: Frame | None = None

        async def look() -> Frame | None:
            nonlocal frame
            frame = await self.frame()
            return frame if holds(frame) else None

        try:
            return await until(look, f"{what} ({self.name})", patience=patience, every=LOOK_EVERY)
        except AssertionError as error:
            last = "" if frame is None else f"; its status: {frame.status}; its pods: {_pod_lines(frame.pods)}"
            raise AssertionError(f"{error}{last}") from None

    async def is_at(self, ready: int, *, patience: float = PATIENCE) -> Frame:
        """Wait until exactly so many pods exist, all of them ready and none on its way out."""
        return await self.shows(
            f"{ready} workers", lambda frame: len(frame.pods) == frame.ready() == ready, patience=patience
        )

    async def vanishes(self, *, patience: float = PATIENCE) -> None:
        """Wait until it is deleted and its last pod is gone."""

        async def is_gone() -> bool:
            gone = await self.kube.get(FLOWWORKERS, self.namespace, self.name) is None
            return gone and not await self.pods()

        await until(is_gone, f"{self.name} and its pods are gone", patience=patience, every=LOOK_EVERY)

    async def frame(self) -> Frame:
        """What can be seen now."""
        pods, status = await self.pods(), await self.status()
        return Frame(at=time.monotonic(), status=status, pods=pods)

    @asynccontextmanager
    async def observed(self) -> AsyncGenerator[list[Frame]]:
        """Frames of everything that happens meanwhile."""
        frames: list[Frame] = []
        observer = asyncio.create_task(self._observe(frames))
        try:
            yield frames
            frames.append(await self.frame())
        finally:
            observer.cancel()
            await asyncio.gather(observer, return_exceptions=True)

    async def _observe(self, frames: list[Frame]) -> None:
        while True:
            frames.append(await self.frame())
            await asyncio.sleep(LOOK_EVERY)


def make_spec(workload: Flow | Queue, *, image: str, **changes: Any) -> Object:
    """A spec for a flow or queue of `e2e.workloads.flows` that reacts within seconds."""
    kind, slug = ("flow", workload.slug) if isinstance(workload, Flow) else ("queue", workload.name)
    container = {
        "name": "worker",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": FLOWS, "mountPath": "/app", "readOnly": True}],
    }
    spec: Object = {
        kind: slug,
        "handler": f"flows:{slug}",
        "image": image,
        "database": {"secretRef": {"name": DATABASE, "key": "uri"}},
        "worker": {
            "maxConcurrency": 5,
            "batchSize": 5,
            "minPollIntervalMilliseconds": 200,
            "maxPollIntervalMilliseconds": 1000,
            "compile": "Verify",
        },
        "scaling": {
            "minReplicas": 0,
            "maxReplicas": 4,
            "tasksPerReplica": 10,
            "idleSecondsBeforeZero": 3,
            "scaleDownWindowSeconds": 5,
        },
        "rollout": {"progressDeadlineSeconds": 60},
        "template": {
            "spec": {
                "containers": [container],
                "volumes": [{"name": FLOWS, "configMap": {"name": FLOWS}}],
            }
        },
    }
    return merged(spec, changes)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Object:
    """A copy with changes merged in: mappings to any depth, everything else replaced."""
    result = dict(copy.deepcopy(base))
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], cast("Mapping[str, Any]", value))
        else:
            result[key] = value
    return result


def is_ready(pod: Object) -> bool:
    """Whether kubelet says so."""
    conditions: Sequence[Mapping[str, str]] = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_ending(pod: Object) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def names(pods: Objects) -> set[str]:
    """Names of pods."""
    return {pod["metadata"]["name"] for pod in pods}


def uids(pods: Objects) -> set[str]:
    """Uids of pods."""
    return {pod["metadata"]["uid"] for pod in pods}


def _pod_lines(pods: Objects) -> list[str]:
    """The little that shows what is wrong with pods."""
    return [
        f"{pod['metadata']['name']} {pod['status'].get('phase')}{' ending' if is_ending(pod) else ''} "
        f"{[one.get('state') for one in pod['status'].get('containerStatuses', ())]}"
        for pod in pods
    ]
