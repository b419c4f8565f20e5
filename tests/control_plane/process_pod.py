"""One pod of the control-plane tier: its container, a worker or one that creates a flow, as a real process."""

import asyncio
import base64
import contextlib
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testkit.support import journal

ROOT = Path(__file__).resolve().parents[2]
WORKER = "worker"
LOOK_EVERY = 0.1
FIRST_BACKOFF = 2.0
"""Seconds before the second restart; the first comes at once, each later one takes twice as long."""
MISSING_IMAGE = "missing.example/"
"""Images that begin so do not exist."""

Object = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class ProcessPod:
    """Runs the worker of one pod, restarts it, and reports its status as kubelet would."""

    pod: Object
    folder: Path
    environment: Mapping[str, str]
    secret: Callable[[str], Awaitable[Object | None]]
    """Reads a Secret of the pod's namespace."""
    config_map: Callable[[str], Awaitable[Object | None]]
    """Reads a ConfigMap of it."""
    report: Callable[[Object], Awaitable[None]]
    """Takes a new status of the pod."""
    warn: Callable[[str, str], Awaitable[None]]
    """Takes reason and message of a warning event about the pod."""
    restarts: int = 0
    process: asyncio.subprocess.Process | None = None
    _stop_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _port: int = 0
    _started_at: str = ""
    _last: Object = field(default_factory=dict[str, Any])
    _warned: set[str] = field(default_factory=set[str])
    _variables: dict[str, str] = field(default_factory=dict[str, str])
    """Those that come from secrets and config maps."""

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stop_asked.is_set()

    @property
    def name(self) -> str:
        """Of the pod."""
        return self.pod["metadata"]["name"]

    async def run(self) -> None:
        """Live until asked to stop."""
        self.folder.mkdir(parents=True)
        backoff = 0.0
        while not self.stopping:
            if not await self._prepared():
                await asyncio.sleep(LOOK_EVERY)
                continue
            code = await self._one_life()
            self._last = {"terminated": self._ended(code)}
            if self.stopping:
                return
            if code == 0 and self.pod["spec"]["restartPolicy"] == "OnFailure":
                await self.report_end()
                return
            await self._report({"terminated": self._ended(code)}, ready=False)
            self.restarts += 1
            if backoff:
                message = f"back-off {backoff:g}s restarting failed container={self.container['name']} pod={self.name}"
                await self._report({"waiting": {"reason": "CrashLoopBackOff", "message": message}}, ready=False)
                await self._unless_stopped(backoff)
            backoff = max(FIRST_BACKOFF, backoff * 2)

    async def report_end(self) -> None:
        """The last status of a pod that was stopped, which kubelet writes before it lets the object go."""
        ended = self._last.get("terminated")
        if ended is not None:
            phase = "Failed" if ended["exitCode"] else "Succeeded"
            await self._report({"terminated": ended}, ready=False, phase=phase)

    def abandon(self) -> None:
        """Stop at once, without a report."""
        self._stop_asked.set()
        self.kill()

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after the grace period."""
        self._stop_asked.set()
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), grace)
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a node's OOM killer would."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def log(self) -> str:
        """Everything its worker has written."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def container(self) -> Object:
        """The worker's container, or the only one of a pod that is no worker's."""
        containers: list[Object] = self.pod["spec"]["containers"]
        return next((one for one in containers if one["name"] == WORKER), containers[0])

    async def _prepared(self) -> bool:
        """Whether image and secrets are there; reports what is missing."""
        if self.container["image"].startswith(MISSING_IMAGE):
            message = f'failed to pull and unpack image "{self.container["image"]}": not found'
            await self._report({"waiting": {"reason": "ErrImagePull", "message": message}}, ready=False)
            return False
        if not await self._mounted():
            await self._report({"waiting": {"reason": "ContainerCreating"}}, ready=False)
            return False
        if missing := await self._missing_variable():
            await self._report({"waiting": {"reason": "CreateContainerConfigError", "message": missing}}, ready=False)
            return False
        return True

    async def _mounted(self) -> bool:
        """Write secrets and config maps as files; whether all of them are there, and what is missing."""
        for volume in self.pod["spec"].get("volumes", ()):
            missing = await self._mount(volume)
            if missing is not None:
                message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {missing}'
                if message not in self._warned:
                    self._warned.add(message)
                    await self.warn("FailedMount", message)
                return False
        return True

    async def _mount(self, volume: Object) -> str | None:
        """Write one volume; gives what is missing in kubelet's words."""
        if "secret" in volume:
            source, name, kind = volume["secret"], volume["secret"]["secretName"], "secret"
            found = await self.secret(name)
        elif "configMap" in volume:
            source, name, kind = volume["configMap"], volume["configMap"]["name"], "configmap"
            found = await self.config_map(name)
        else:
            return None
        if found is None:
            return None if source.get("optional") else f'{kind} "{name}" not found'
        data = _content(found)
        for item in source.get("items") or [{"key": key, "path": key} for key in data]:
            if item["key"] not in data:
                return f"references non-existent {'config' if kind == 'configmap' else kind} key: {item['key']}"
            self._write(volume["name"], item["path"], data[item["key"]])
        return None

    async def _missing_variable(self) -> str | None:
        """Read the variables that come from secrets and config maps; gives what is missing in kubelet's words."""
        self._variables = {}
        for source in self.container.get("envFrom", ()):
            reference, kind, found = await self._referred(source, "Ref")
            if found is None:
                return f'{kind.lower()} "{reference["name"]}" not found'
            self._variables |= {key: value.decode() for key, value in _content(found).items()}
        for entry in self.container.get("env", ()):
            if not {"secretKeyRef", "configMapKeyRef"} & set(entry.get("valueFrom", ())):
                continue
            reference, kind, found = await self._referred(entry["valueFrom"], "KeyRef")
            if found is None:
                return f'{kind.lower()} "{reference["name"]}" not found'
            if reference["key"] not in _content(found):
                where = f"{self.pod['metadata']['namespace']}/{reference['name']}"
                return f"couldn't find key {reference['key']} in {kind} {where}"
            self._variables[entry["name"]] = _content(found)[reference["key"]].decode()
        return None

    async def _referred(self, source: Object, suffix: str) -> tuple[Object, str, Object | None]:
        if f"secret{suffix}" in source:
            reference = source[f"secret{suffix}"]
            return reference, "Secret", await self.secret(reference["name"])
        reference = source[f"configMap{suffix}"]
        return reference, "ConfigMap", await self.config_map(reference["name"])

    def _write(self, volume: str, name: str, content: bytes) -> None:
        path = self.folder / volume / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.with_suffix(".new").write_bytes(content)
            path.with_suffix(".new").replace(path)

    async def _one_life(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        (self.folder / "termination").write_text("")
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "flowworker.cli", *map(self._path, self.container["args"]),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip
        self._started_at = _now()
        if self.stopping:
            self.kill()
        watching = asyncio.create_task(self._watch())
        try:
            return await self.process.wait()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        """Report readiness as it changes, and bring secrets up to date."""
        running = {"running": {"startedAt": self._started_at}}
        reported: bool | None = None
        while True:
            ready = await asyncio.to_thread(_is_ready, self._port)
            if ready != reported:
                await self._report(running, ready=ready)
                reported = ready
            await self._mounted()
            await asyncio.sleep(LOOK_EVERY)

    async def _unless_stopped(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_asked.wait(), seconds)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        given = {entry["name"]: self._value(entry) for entry in self.container.get("env", ())} | self._variables
        ours = {
            journal.NAME_VARIABLE: self.name,
            "FLOWWORKER_PROBE_HOST": "127.0.0.1",
            "FLOWWORKER_PROBE_PORT": str(self._port),
            "FLOWWORKER_TERMINATION_LOG": str(self.folder / "termination"),
            "FLOWWORKER_LOG_FORMAT": "json",
        }
        return {**kept, **given, **self.environment, **ours}

    def _value(self, entry: Object) -> str:
        if "fieldRef" in entry.get("valueFrom", ()):
            return self._field(entry["valueFrom"]["fieldRef"]["fieldPath"])
        return self._path(entry.get("value", ""))

    def _path(self, value: str) -> str:
        """A path below a mount where this machine has it; anything else as it is."""
        for mount in self.container.get("volumeMounts", ()):
            if value.startswith(mount["mountPath"] + "/"):
                return str(self.folder / mount["name"]) + value.removeprefix(mount["mountPath"])
        return value

    def _field(self, path: str) -> str:
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        metadata = self.pod["metadata"]
        return metadata["labels"][label[1]] if label else metadata[path.removeprefix("metadata.")]

    def _ended(self, code: int) -> Object:
        message = (self.folder / "termination").read_text(errors="replace")
        if not message:  # FallbackToLogsOnError
            message = self.log()[-2048:]
        return {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message if code else "",
            "startedAt": self._started_at,
            "finishedAt": _now(),
        }

    async def _report(self, state: Object, *, ready: bool, phase: str | None = None) -> None:
        if self.stopping and not ready and "running" in state:
            return
        truth = "True" if ready else "False"
        conditions = [
            {"type": kind, "status": status, "lastTransitionTime": _now()}
            for kind, status in (("PodScheduled", "True"), ("Initialized", "True"), ("ContainersReady", truth),
                                 ("Ready", truth))
        ]  # fmt: skip
        container = {
            "name": self.container["name"],
            "image": self.container["image"],
            "imageID": "",
            "ready": ready,
            "started": "running" in state,
            "restartCount": self.restarts,
            "state": state,
            "lastState": self._last if "terminated" not in state else {},
        }
        phase = phase or ("Running" if self._started_at else "Pending")
        await self.report({"phase": phase, "conditions": conditions, "containerStatuses": [container]})


def _content(found: Object) -> dict[str, bytes]:
    """What a secret or a config map holds."""
    if found.get("kind") == "ConfigMap":
        return {key: value.encode() for key, value in found.get("data", {}).items()}
    return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
