"""The watches: kopf tells of every change, and all that happens here is that it is passed on.

kopf runs in a thread with a loop of its own, as its documentation advises for embedding: it takes over the signals of
the main thread and, when it ends, cancels every task of its loop. It is started again when it ends by itself, which it
does when the API server answers a watch with an error of its own.

Each kind has its own label selector, which kopf sends to the server (docs/adr/0014-kopf-watches-everything.md).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import kopf
import structlog

from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS, Object, Resource
from flowworker_operator.domain.naming import MANAGED_BY_LABEL, MANAGER

OURS = f"{MANAGED_BY_LABEL}={MANAGER}"
"""Selects what this operator has made."""

WATCHED = {FLOWWORKERS: "", DEPLOYMENTS: OURS, PODS: OURS, BUDGETS: OURS}
"""Label selector of each kind."""

STOP_PATIENCE = 5.0
"""Seconds for open watches to end."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

Deliver = Callable[[Resource, str | None, Object], None]
"""Takes what a watch tells: the kind of object, ADDED, MODIFIED, DELETED or None for one that was there, the object."""

logger = structlog.stdlib.get_logger(__name__)
_kopf: Any = kopf
"""Its decorators have types that a checker cannot follow."""


class Watches:
    """Watches all kinds until stopped."""

    def __init__(self, *, namespaces: Sequence[str], kubeconfig: Path | None, deliver: Deliver) -> None:
        """Prepare.

        Args:
            namespaces: to watch; none means all of the cluster.
            kubeconfig: None means that we run in a pod of the cluster.
            deliver: called in the loop that `run` runs in.
        """
        self._namespaces = namespaces
        self._kubeconfig = kubeconfig
        self._deliver = deliver
        self._life: _Life | None = None

    @property
    def running(self) -> bool:
        """Whether the watches have been started and have not ended."""
        return self._life is not None and self._life.started.is_set()

    async def run(self) -> None:
        """Watch until cancelled, whatever happens to the connection."""
        pause = FIRST_PAUSE
        while True:
            self._life = life = _Life(self._operate)
            began = asyncio.get_running_loop().time()
            error = await life.lived()
            self._life = None
            long = asyncio.get_running_loop().time() - began > LONGEST_PAUSE
            pause = FIRST_PAUSE if long else min(LONGEST_PAUSE, pause * 2)
            logger.warning("the watches have ended and are started again", error=str(error), seconds=pause)
            await asyncio.sleep(pause)

    async def _operate(self, life: "_Life") -> None:
        scope: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
        await _kopf.operator(
            registry=self._registry(life.owner),
            settings=_settings(),
            standalone=True,
            ready_flag=life.started,
            stop_flag=life.stop,
            **scope,
        )

    def _registry(self, owner: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        _kopf.on.login(registry=registry)(self._login)
        for resource in WATCHED:
            group, _, version = resource.api_version.rpartition("/")
            told = self._teller(resource, owner)
            _kopf.on.event(group, version, resource.plural, registry=registry)(told)
        return registry

    def _teller(self, resource: Resource, owner: asyncio.AbstractEventLoop) -> Callable[..., Awaitable[None]]:
        async def told(event: Any, **_: Any) -> None:
            owner.call_soon_threadsafe(self._deliver, resource, event["type"], event["object"])

        return told

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        """The same way in as that of our own client."""
        found: Any = await configuration(self._kubeconfig)
        header: str | None = await found.get_api_key_with_prefix("BearerToken")
        scheme, token = (header or "").rpartition(" ")[::2]
        return kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
        )


class _Life:
    """One run of kopf in a thread."""

    def __init__(self, operate: Callable[["_Life"], Awaitable[None]]) -> None:
        self.owner = asyncio.get_running_loop()
        self.started = threading.Event()
        self.stop: asyncio.Event | None = None
        self._operate = operate
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[BaseException | None] = self.owner.create_future()
        threading.Thread(target=self._thread, name="flowworker-watches", daemon=True).start()

    async def lived(self) -> BaseException | None:
        """What ended it; stops it when cancelled."""
        try:
            return await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            if self._loop is not None and self.stop is not None:
                self._loop.call_soon_threadsafe(self.stop.set)
            await asyncio.wait((self._ended,), timeout=STOP_PATIENCE)
            raise

    def _thread(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._run())
        except BaseException as failure:  # noqa: BLE001 - told to the owner, who decides
            error = failure
        self.owner.call_soon_threadsafe(self._end, error)

    async def _run(self) -> None:
        self.stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        await self._operate(self)

    def _end(self, error: BaseException | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.queueing.exit_timeout = 0.5
    for resource, selector in WATCHED.items():
        if selector:
            group = resource.api_version.rpartition("/")[0]
            settings.watching.label_selectors[group, resource.plural] = selector
    return settings
