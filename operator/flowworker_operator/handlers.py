"""The watches: kopf calls a handler with every change, which passes it on and does nothing else.

kopf runs in a thread with a loop of its own, as its documentation advises for embedding: it takes over the signals of
the main thread and, when it ends, cancels every task of its loop. It is started again when it ends by itself, which it
does when the API server answers a watch with an error of its own, and when it has not found a kind: it looks once. One
refused watch ends all of a run, so only what can be read is watched, and what is refused changes which runs there are.

A run that ends because of one watch leaves the others behind: kopf stops what logs in, closes its session, and lets
these watches, which find it closed, wait for a login that never comes. Some survive even being cancelled, and the run
with them. So a run is over for us as soon as one of its kinds is not there any more, and its session is closed by us,
when all of it has ended.

Each kind has its own label selector, which kopf sends to the server (docs/adr/0014-kopf-watches-everything.md).
"""

import asyncio
import json
import ssl
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
import kopf
import structlog

from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS, Object, Resource
from flowworker_operator.cluster.shallow import shallow
from flowworker_operator.domain.naming import MANAGED_BY_LABEL, MANAGER
from flowworker_operator.readable_scopes import Readable, ReadableScopes
from flowworker_operator.store import slim

OURS = f"{MANAGED_BY_LABEL}={MANAGER}"
"""Selects what this operator has made."""

WATCHED = {FLOWWORKERS: "", DEPLOYMENTS: OURS, PODS: OURS, BUDGETS: OURS}
"""Label selector of each kind."""

BULKY = frozenset({"spec", "status"})
"""Parts of an object."""

STOP_PATIENCE = 5.0
"""Seconds for open watches to end."""
FOUND_WITHIN = 5.0
"""Seconds in which kopf asks for every kind that it has found."""
CHUNK = 5
"""Objects that kopf asks for at once: each may have a megabyte."""
KEPT_FOR = 0.01
"""Seconds for which kopf keeps an object after it has passed it on."""
WATCH_SECONDS = 60
"""For which a watch stays open. One of a CRD that was deleted and created anew may live on, with bookmarks, and never
deliver a change again: only a new request finds the new resources."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

Deliver = Callable[[Resource, str | None, Object], None]
"""Called with every watch event: the resource; ADDED, MODIFIED, DELETED, or None for the first list; the object."""

logger = structlog.stdlib.get_logger(__name__)
_kopf: Any = kopf
"""Its decorators have types that a checker cannot follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Namespaces in which the same kinds can be read: kopf watches every kind in every namespace that it is given."""

    namespaces: tuple[str | None, ...]
    resources: frozenset[Resource]

    @property
    def paths(self) -> frozenset[str]:
        """Where the API server keeps what is watched."""
        return frozenset(one.path(namespace) for one in self.resources for namespace in self.namespaces)


def groups(readable: Readable) -> frozenset[Group]:
    """What is watched together: one group, as long as nothing is refused anywhere."""
    alike: defaultdict[frozenset[Resource], list[str | None]] = defaultdict(list)
    for namespace, kinds in readable.items():
        alike[kinds].append(namespace)
    return frozenset(Group(namespaces=tuple(sorted(names, key=str)), resources=kinds) for kinds, names in alike.items())


class Watches:
    """Watches all that can be read until stopped."""

    def __init__(
        self,
        *,
        readable: ReadableScopes,
        kubeconfig: Path | None,
        deliver: Deliver,
        interrupted: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            readable: what can be read.
            kubeconfig: None means that we run in a pod of the cluster.
            deliver: called in the loop that `run` runs in.
            interrupted: called when watches have ended by themselves: something may have been missed, or be refused.
            clock: monotonic seconds.
        """
        self._readable = readable
        self._kubeconfig = kubeconfig
        self._deliver = deliver
        self._interrupted = interrupted
        self._clock = clock
        self._lives: dict[Group, _Life] = {}
        self._unwatched_since: float | None = None

    @property
    def running(self) -> bool:
        """Whether something can be read, and all that can be read is watched."""
        wanted = groups(self._readable.readable)
        return bool(wanted) and all(group in self._lives and self._lives[group].complete for group in wanted)

    @property
    def unwatched_for(self) -> float:
        """Seconds since which a watch of something that can be read has not begun."""
        return 0.0 if self._unwatched_since is None else self._clock() - self._unwatched_since

    async def run(self) -> None:
        """Watch until cancelled, whatever happens to the connection."""
        tasks: dict[Group, asyncio.Task[None]] = {}
        try:
            while True:
                self._readable.changed.clear()
                wanted = groups(self._readable.readable)
                await _stopped([tasks.pop(group) for group in list(tasks) if group not in wanted])
                for group in wanted - tasks.keys():
                    tasks[group] = asyncio.create_task(self._watch(group), name="watches")
                self._judge()
                changed = asyncio.create_task(self._readable.changed.wait())
                done, _ = await asyncio.wait({changed, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                for task in done - {changed}:
                    task.result()  # it only ends by an error of our own
        finally:
            await _stopped(list(tasks.values()))

    async def _watch(self, group: Group) -> None:
        pause = FIRST_PAUSE
        while True:
            self._lives[group] = life = _Life(group.paths, self._operation(group), self._judge)
            began = asyncio.get_running_loop().time()
            try:
                error = await life.lived()
            finally:
                del self._lives[group]
                self._judge()
            long = asyncio.get_running_loop().time() - began > LONGEST_PAUSE
            pause = FIRST_PAUSE if long else min(LONGEST_PAUSE, pause * 2)
            logger.warning("the watches have ended and are started again", error=str(error), seconds=pause)
            self._interrupted()
            await asyncio.sleep(pause)

    def _judge(self) -> None:
        """Note since when something is not watched."""
        if self.running or not self._readable.readable:
            self._unwatched_since = None
        elif self._unwatched_since is None:
            self._unwatched_since = self._clock()

    def _operation(self, group: Group) -> Callable[["_Life"], Awaitable[None]]:
        names = [name for name in group.namespaces if name is not None]
        scope: dict[str, Any] = {"namespaces": names} if names else {"clusterwide": True}

        async def operate(life: "_Life") -> None:
            await _kopf.operator(
                registry=self._registry(group, life),
                settings=_settings(),
                standalone=True,
                ready_flag=life.started,
                stop_flag=life.stop,
                **scope,
            )

        return operate

    def _registry(self, group: Group, life: "_Life") -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.AiohttpSession:
            return await self._login(life)

        _kopf.on.login(registry=registry)(login)
        for resource in group.resources:
            name, _, version = resource.api_version.rpartition("/")
            deliver = self._delivery(resource, life.owner)
            _kopf.on.event(name, version, resource.plural, registry=registry)(deliver)
        return registry

    def _delivery(self, resource: Resource, owner: asyncio.AbstractEventLoop) -> Callable[..., Awaitable[None]]:
        async def deliver(event: Any, **_: Any) -> None:
            kept = slim(resource, event["object"])
            # kopf holds on to the object; what may be large of it, it need not.
            event["object"].update({name: kept.get(name) for name in event["object"] if name in BULKY})
            owner.call_soon_threadsafe(self._deliver, resource, event["type"], kept)

        return deliver

    async def _login(self, life: "_Life") -> kopf.AiohttpSession:
        """Log in as our own client does; the session's trace records which watches are open."""
        found: Any = await configuration(self._kubeconfig)
        header: str | None = await found.get_api_key_with_prefix("BearerToken")
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_context(found)),
            headers={"Authorization": header} if header else {},
            trace_configs=[life.trace()],
        )
        life.sessions.append(session)
        lent: Any = _Lent(session)
        return kopf.AiohttpSession(server=found.host, aiohttp_session=lent)


class _Lent:
    """A session that its borrower cannot close: watches that a run has left behind go on until they are cancelled."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def request(self, **how: Any) -> "_Shallow":
        """Send, and let nothing of the answer be nested deeper than kopf's parser goes."""
        return _Shallow(await self._session.request(**how))

    async def close(self) -> None:
        """Leave it to the lender."""


class _Shallow:
    """An answer whose JSON is cut where it is nested too deep; everything else is the answer's own.

    One object that kopf cannot parse would end the watch of its kind for all.
    """

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)

    async def __aenter__(self) -> Self:
        await self._answer.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._answer.__aexit__(*error)

    @property
    def content(self) -> Self:
        """The answer as a stream."""
        return self

    async def json(self) -> Any:
        """The whole of it."""
        return json.loads(shallow(await self._answer.read()))

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Its lines, each in one piece, whatever its size."""
        line = bytearray()
        async for chunk in self._answer.content.iter_chunked(size):
            *ended, rest = chunk.split(b"\n")
            for part in ended:
                yield shallow(bytes(line + part)) + b"\n"
                line.clear()
            line += rest
        if line:
            yield shallow(bytes(line))


class _Life:
    """One run of kopf in a thread."""

    def __init__(
        self, paths: frozenset[str], operate: Callable[["_Life"], Awaitable[None]], opened: Callable[[], None]
    ) -> None:
        self.owner = asyncio.get_running_loop()
        self.started = threading.Event()
        self.stop: asyncio.Event | None = None
        self.sessions: list[aiohttp.ClientSession] = []
        """What it was lent, to be closed when it has ended."""
        self._paths = paths
        self._operate = operate
        self._on_open = opened
        self._asked: set[str] = set()
        self._opened: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[BaseException | None] = self.owner.create_future()
        threading.Thread(target=self._thread, name="flowworker-watches", daemon=True).start()

    @property
    def complete(self) -> bool:
        """Whether every watch has been open."""
        return self._opened >= self._paths

    def trace(self) -> aiohttp.TraceConfig:
        """Records every request: kopf itself does not say which kinds it has found and which watches are open."""
        config = aiohttp.TraceConfig()

        async def asked(_: object, __: object, about: aiohttp.TraceRequestStartParams) -> None:
            self.owner.call_soon_threadsafe(self._asked.add, about.url.path)

        async def answered(_: object, __: object, about: aiohttp.TraceRequestEndParams) -> None:
            if about.response.status == HTTPStatus.OK and "watch" in about.url.query:
                self.owner.call_soon_threadsafe(self._open, about.url.path)
            elif about.response.status == HTTPStatus.NOT_FOUND and about.url.path in self._paths:
                gone = LookupError(f"the API server does not know {about.url.path} any more")
                self.owner.call_soon_threadsafe(self._end, gone)

        config.on_request_start.append(asked)
        config.on_request_end.append(answered)
        return config

    async def lived(self) -> BaseException | None:
        """What ended it; stops it when cancelled, or when it does not find a kind, which it looks for only once."""
        try:
            await asyncio.wait((self._ended,), timeout=FOUND_WITHIN)
            if not self._ended.done() and (missing := self._paths - self._asked):
                return LookupError(f"the API server does not serve {', '.join(sorted(missing))}")
            return await asyncio.shield(self._ended)
        finally:
            self._halt()
            await asyncio.wait((self._ended,), timeout=STOP_PATIENCE)

    def _open(self, path: str) -> None:
        self._opened.add(path)
        self._on_open()

    def _halt(self) -> None:
        if self._loop is not None and self.stop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self.stop.set)

    def _thread(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._run())
        except BaseException as failure:  # noqa: BLE001 - passed to the owner, which decides
            error = failure
        self.owner.call_soon_threadsafe(self._end, error)

    async def _run(self) -> None:
        self.stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            await self._operate(self)
        finally:
            for session in self.sessions:
                await session.close()

    def _end(self, error: BaseException | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)


async def _stopped(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _context(found: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=found.ssl_ca_cert)
    if found.cert_file:
        context.load_cert_chain(found.cert_file, found.key_file)
    if not found.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = KEPT_FOR
    settings.watching.server_timeout = WATCH_SECONDS
    settings.queueing.exit_timeout = 0.5
    for resource, selector in WATCHED.items():
        if selector:
            group = resource.api_version.rpartition("/")[0]
            settings.watching.label_selectors[group, resource.plural] = selector
    return settings
