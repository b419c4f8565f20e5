"""The order in which a node comes up: as much at once as the daemons' needs of each other allow."""

import asyncio
import http.client
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testkit.cluster import daemons
from testkit.cluster.api import Api, fetch
from testkit.cluster.children import LAST_LINES, tail
from testkit.cluster.daemons import Daemon
from testkit.cluster.errors import ApiError, StartError
from testkit.cluster.layout import Layout
from testkit.cluster.local.objects import first_objects, volume_folders
from testkit.cluster.local.processes import Process, Processes

LOOK_EVERY = 0.1
"""Seconds between two looks at a condition."""
PATIENCE = 90.0
"""Seconds that any one step may take; a busy machine needs many times the usual few."""
IMPORT_PATIENCE = 300.0
"""Seconds that one image may take."""

KWOK_STAGES = Path(__file__).with_name("kwok-stages.yaml")
IMAGE_LOG = "images"
CTR = "/usr/bin/ctr"


@dataclass(slots=True)
class Node:
    """The daemons of one node, as their parent sees them."""

    layout: Layout
    api: Api
    processes: Processes
    daemons: dict[str, Daemon]
    running: dict[str, Process] = field(default_factory=dict[str, Process])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Step to seconds from the begin until it was done."""
    begin: float = field(default_factory=time.monotonic)

    @classmethod
    def create(cls, layout: Layout, api: Api, processes: Processes, *, kwok: bool) -> "Node":
        """A node with nothing started."""
        chosen = [
            daemons.etcd(layout, durable=False),
            daemons.api_server(layout),
            daemons.controller_manager(layout),
            daemons.scheduler(layout),
            daemons.containerd(layout),
            daemons.kubelet(layout),
            daemons.kube_proxy(layout),
            daemons.coredns(layout),
            *([daemons.kwok(layout, KWOK_STAGES)] if kwok else []),
        ]
        return cls(layout, api, processes, {daemon.name: daemon for daemon in chosen})

    async def bring_up(self, images: Sequence[Path]) -> None:
        """Start everything and wait until pods can run.

        Raises:
            StartError: a step did not come about in time.
        """
        for folder in volume_folders(self.layout):
            folder.mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as steps:
            runtime = steps.create_task(self.start("containerd"))
            steps.create_task(self._load(images, runtime))
            await self.start("etcd")
            await self.start("kube-apiserver")
            await self._create_objects()
            await runtime
            for name in self.daemons.keys() - self.running.keys():
                steps.create_task(self.start(name))
            steps.create_task(self._node_is_ready())
            steps.create_task(self._pods_are_admitted())

    async def start(self, name: str) -> None:
        """Start a daemon unless it runs, and wait until it works.

        Raises:
            StartError: it ended, or does not work in time.
        """
        if (process := self.running.get(name)) is None or not process.is_running:
            self.running[name] = self.processes.spawn(self.daemons[name].command, self.layout.log(name))
        await self._until(name, lambda: self._works(self.daemons[name]), f"{name} works")

    async def load(self, image: Path) -> None:
        """Give the images of an archive to containerd.

        Raises:
            StartError: containerd refused them.
        """
        await self._ctr("--namespace=k8s.io", "images", "import", str(image), patience=IMPORT_PATIENCE)
        self._done(f"image {image.name}")

    async def _load(self, images: Sequence[Path], runtime: Awaitable[None]) -> None:
        await runtime
        for image in images:
            await self.load(image)

    async def _works(self, daemon: Daemon) -> bool:
        if daemon.health is None:
            await self._ctr("version", patience=PATIENCE)
            return True
        return (await asyncio.to_thread(fetch, daemon.health, context=self.api.context))[0] == http.client.OK

    async def _ctr(self, *arguments: str, patience: float) -> None:
        log = self.layout.log(IMAGE_LOG)
        process = self.processes.spawn([CTR, f"--address={self.layout.run / 'containerd.sock'}", *arguments], log)
        try:
            code = await asyncio.wait_for(process.end(), patience)
        except TimeoutError:
            process.send(signal.SIGKILL)
            code = await process.end()
        if code:
            words = " ".join(arguments)
            raise StartError(f"ctr {words} ended with {code}. The last lines of its log:\n{tail(log, LAST_LINES)}")

    async def _create_objects(self) -> None:
        for collection, manifest in first_objects(self.layout):
            # The API server says that it is ready a moment before its roles and the namespace kube-system exist.
            await self._until(
                "kube-apiserver",
                lambda collection=collection, manifest=manifest: self._create(f"/{collection}", manifest),
                f"{manifest['kind']} {manifest['metadata']['name']} exists",
            )

    async def _create(self, path: str, manifest: dict[str, object]) -> bool:
        try:
            await asyncio.to_thread(self.api.create, path, manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return True

    async def _node_is_ready(self) -> None:
        await self._until("kubelet", self._is_ready, "the node is ready")

    async def _is_ready(self) -> bool:
        node = await asyncio.to_thread(self.api.get, f"/api/v1/nodes/{self.layout.node}")
        conditions = node.get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    async def _pods_are_admitted(self) -> None:
        """Pods are refused in a namespace without its default service account."""
        await self._until("kube-controller-manager", self._has_service_account, "the default service account exists")

    async def _has_service_account(self) -> bool:
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        return await asyncio.to_thread(self.api.find, path) is not None

    async def _until(self, name: str, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for what a daemon has to bring about; a failure to ask is "not yet"."""
        problem = "not yet"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if (process := self.running[name]).ended.done():
                problem = f"{name} ended with {process.ended.result()}"
                break
            try:
                if await condition():
                    return self._done(what)
            except (OSError, http.client.HTTPException, ApiError, StartError) as error:
                problem = repr(error)
            await asyncio.sleep(LOOK_EVERY)
        log = self.layout.log(name)
        raise StartError(f"in vain: {what}: {problem}. The last lines of {log}:\n{tail(log, LAST_LINES)}")

    def _done(self, what: str) -> None:
        self.seconds[what] = round(time.monotonic() - self.begin, 2)
