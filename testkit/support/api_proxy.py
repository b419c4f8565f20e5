"""An HTTPS proxy between a Kubernetes client and its API server, which does what a test asks for.

It takes part in every request, so a test can stop the world at the very moment when a write is sent, or has been done
and not been answered. Watches pass event by event. To the API server it is the client itself, with the client's
certificate; to the client it is the API server, with a certificate of the cluster's own authority.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
import orjson
from aiohttp import web
from testkit.cluster.api import Api
from testkit.cluster.certificates import Authority, Credential, Identity, write_private
from testkit.support.api_calls import Answer, Call, Object, content_of, place_of, verb_of, writes
from testkit.support.api_faults import Forward, Handling
from testkit.support.proxy import RESET, Weather
from yarl import URL

LOOPBACK = "127.0.0.1"
FORWARDED = ("Accept", "Content-Type", "User-Agent")
RETURNED = ("Content-Type", "Retry-After")
LONGEST_LINE = 1 << 20

GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
               "message": "too old resource version"},
}  # fmt: skip


class Fate(Enum):
    """What becomes of an event of a watch."""

    PASS = auto()
    DROP = auto()
    """The client never hears of it."""
    HOLD = auto()
    """It waits, and those behind it on the same watch wait as well, until it may pass."""


Judge: TypeAlias = Callable[[Call, Object], Fate]
"""Decides about an event of a watch."""


@dataclass(slots=True, kw_only=True, eq=False)
class Interception:
    """Something that is done to calls, in place of passing them on."""

    matches: Callable[[Call], bool]
    handling: Handling
    times: int | None
    """How often; None: until it is withdrawn."""
    calls: list[Call] = field(default_factory=list[Call])
    """Those that it was done to."""
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, call: Call) -> bool:
        """Whether it is done to this call, which counts."""
        if (self.times is not None and len(self.calls) >= self.times) or not self.matches(call):
            return False
        self.calls.append(call)
        return True


class ApiProxy:
    """Listens on a free port of loopback.

    Example:
        async with ApiProxy(kubeconfig, authority) as proxy:
            client = proxy.kubeconfig
            proxy.intercept(writes, answers(503), times=3)
    """

    def __init__(self, kubeconfig: Path, authority: Authority) -> None:
        """Prepare.

        Args:
            kubeconfig: of the client, as `certificates` writes it; the client has to use `self.kubeconfig` instead.
            authority: that the client trusts.
        """
        self._original = kubeconfig
        self._upstream = Api.from_kubeconfig(kubeconfig)
        self._authority = authority
        self._interceptions: list[Interception] = []
        self._streams: dict[web.StreamResponse, aiohttp.ClientResponse] = {}
        self._tasks: set[asyncio.Task[Answer | None]] = set()
        self._weather = Weather.CLEAR
        self._passable = asyncio.Event()
        self._passable.set()
        self._number = 0
        self._judge: Judge = lenient
        self._judge_changed = asyncio.Event()
        self.calls: list[Call] = []
        """Every request so far."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._upstream.context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=LONGEST_LINE,
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0, ssl_context=self._own_context())
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.weather = Weather.REFUSED
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await self._runner.cleanup()

    @property
    def kubeconfig(self) -> Path:
        """For the client: its own, but for the address."""
        document = json.loads(self._original.read_bytes())
        document["clusters"][0]["cluster"]["server"] = f"https://{LOOPBACK}:{self.port}"
        path = self._original.with_name(f"{self._original.name}-through-{self.port}")
        write_private(path, json.dumps(document).encode())
        return path

    @property
    def weather(self) -> Weather:
        """What happens to everything that goes through."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.HELD:
            self._passable.clear()
        else:
            self._passable.set()
        if weather is Weather.REFUSED:
            self.reset()

    @property
    def judge(self) -> Judge:
        """Asked about every event of every watch; a new one is asked again about those that are held."""
        return self._judge

    @judge.setter
    def judge(self, judge: Judge) -> None:
        self._judge = judge
        self._judge_changed.set()
        self._judge_changed = asyncio.Event()

    @property
    def writes(self) -> list[Call]:
        """Every write so far, Leases aside."""
        return [call for call in self.calls if call.number]

    def since(self, moment: float) -> list[Call]:
        """Every request since a moment of the monotonic clock."""
        return [call for call in self.calls if call.at >= moment]

    def intercept(
        self, matches: Callable[[Call], bool], handling: Handling, *, times: int | None = None
    ) -> Interception:
        """Do something to calls; the first interception that takes a call decides."""
        made = Interception(matches=matches, handling=handling, times=times)
        self._interceptions.append(made)
        return made

    def withdraw(self) -> None:
        """Withdraw all interceptions."""
        self._interceptions.clear()

    def reset(self) -> None:
        """Reset every connection of the client; new ones are welcome."""
        server = self._runner.server
        assert server is not None
        for connection in server.connections:
            if connection.transport is not None:
                _reset(connection.transport)

    async def expire_watches(self) -> int:
        """End every open watch as the server does when it has forgotten too much; returns how many there were."""
        streams = dict(self._streams)
        for stream, source in streams.items():
            with contextlib.suppress(ConnectionError):
                await stream.write(orjson.dumps(GONE) + b"\n")
            source.close()  # which ends the loop that reads it, and that the stream
        return len(streams)

    @property
    def open_watches(self) -> int:
        """How many watches are open."""
        return len(self._streams)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = self._noted(request, body)

        async def forward() -> Answer:
            call.answer = await self._forwarded(request, call, body)
            return call.answer

        # What is on its way to the server arrives, whatever becomes of the client.
        task = asyncio.create_task(self._answered(call, forward))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        answer = await asyncio.shield(task)
        if answer is None or request.transport is None:
            if request.transport is not None:
                _reset(request.transport)
            return web.Response()
        if answer.stream is None:
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        return await self._passed_on(request, call, answer, answer.stream)

    def _noted(self, request: web.Request, body: bytes) -> Call:
        place, query = place_of(request.path), dict(request.query)
        call = Call(
            at=time.monotonic(),
            number=0,
            method=request.method,
            verb=verb_of(request.method, place, query),
            place=place,
            query=query,
            body=content_of(body),
        )
        if writes(call):
            self._number += 1
            call.number = self._number
        self.calls.append(call)
        return call

    async def _answered(self, call: Call, forward: Forward) -> Answer | None:
        """What the client gets; None resets its connection."""
        await self._pass()
        if self._weather is Weather.REFUSED:
            return None
        found = next((one for one in self._interceptions if one.takes(call)), None)
        try:
            answer = await forward() if found is None else await found.handling(call, forward)
        except (aiohttp.ClientError, OSError):
            return None
        finally:
            if found is not None:
                found.happened.set()
        await self._pass()
        return answer

    async def _pass(self) -> None:
        """Go through the weather; swallowed for good is what travels in the wrong moment."""
        await self._passable.wait()
        if self._weather is Weather.SWALLOWED:
            await asyncio.Event().wait()

    async def _forwarded(self, request: web.Request, call: Call, body: bytes) -> Answer:
        response = await self._session.request(
            request.method,
            URL(self._upstream.server + request.raw_path, encoded=True),
            headers={name: request.headers[name] for name in FORWARDED if name in request.headers},
            data=body or None,
        )
        headers = {name: response.headers[name] for name in RETURNED if name in response.headers}
        if call.verb == "watch" and response.status == 200:
            return Answer(status=response.status, headers=headers, stream=response)
        return Answer(status=response.status, headers=headers, body=await response.read())

    async def _passed_on(
        self, request: web.Request, call: Call, answer: Answer, source: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Pass the events of a watch."""
        stream = web.StreamResponse(status=answer.status, headers=answer.headers)
        await stream.prepare(request)
        self._streams[stream] = source
        try:
            while line := await source.content.readline():
                if await self._fate(call, content_of(line)) is Fate.PASS:
                    await stream.write(line)
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            source.close()
            del self._streams[stream]
        return stream

    async def _fate(self, call: Call, event: Object) -> Fate:
        while (fate := self._judge(call, event)) is Fate.HOLD:
            await self._judge_changed.wait()
        await self._passable.wait()
        return Fate.DROP if self._weather is Weather.SWALLOWED else fate

    def _own_context(self) -> ssl.SSLContext:
        identity = Identity(name="api-proxy", user="api-proxy", hosts=("localhost", LOOPBACK))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, self._authority.issue(identity, datetime.now(UTC)))
        return context


def busiest_second(calls: Iterable[Call]) -> int:
    """Most calls that were begun within one second."""
    moments = sorted(call.at for call in calls)
    return max((sum(begun <= at < begun + 1 for at in moments) for begun in moments), default=0)


def lenient(_call: Call, _event: Object) -> Fate:
    """Everything passes."""
    return Fate.PASS


def _reset(transport: asyncio.BaseTransport) -> None:
    """End a connection with RST."""
    link: socket.socket | None = transport.get_extra_info("socket")
    if link is not None and not transport.is_closing():
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if isinstance(transport, asyncio.Transport):
        transport.abort()


def _load(context: ssl.SSLContext, credential: Credential) -> None:
    """The ssl module takes certificates from files only."""
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(credential.certificate)
        pair.write(credential.key)
        pair.flush()
        context.load_cert_chain(pair.name)
