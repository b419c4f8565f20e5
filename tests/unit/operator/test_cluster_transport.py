"""Answers that a real API server does not give on demand, from a server of our own on loopback."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from flowworker_operator.cluster import client
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.configuration import configuration
from flowworker_operator.cluster.errors import Refused, Unavailable
from flowworker_operator.cluster.resources import PODS, Object
from flowworker_operator.cluster.transport import LARGEST_ANSWER, Transport

MIB = 1 << 20
Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class StrangeServer:
    """Answers as scripted, one request after another."""

    answers: list[Answerer] = field(default_factory=list[Answerer])
    asked: list[web.Request] = field(default_factory=list[web.Request])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answers.pop(0)(request)


def saying(status: int, body: Object | bytes, **headers: str) -> Answerer:
    async def answer(_: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=status, body=data, headers=headers, content_type="application/json")

    return answer


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits for so long")


async def half_an_answer(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"items":')
    assert request.transport is not None
    request.transport.close()
    return response


def page(*names: str, token: str = "") -> Answerer:
    items = [{"metadata": {"name": name}} for name in names]
    return saying(200, {"metadata": {"continue": token}, "items": items})


@pytest.fixture
async def server() -> AsyncGenerator[StrangeServer]:
    """A server whose answers are scripted."""
    strange = StrangeServer()
    yield strange
    assert not strange.answers


@pytest.fixture
async def port(server: StrangeServer) -> AsyncGenerator[int]:
    """Where the strange server listens."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def cluster(port: int, tmp_path: Path) -> AsyncGenerator[Cluster]:
    """A client of the strange server that loses patience after half a second."""
    async with connected(tmp_path, f"http://127.0.0.1:{port}", 0.5) as cluster:
        yield cluster


@pytest.fixture
async def patient(port: int, tmp_path: Path) -> AsyncGenerator[Cluster]:
    """A client that waits for long answers."""
    async with connected(tmp_path, f"http://127.0.0.1:{port}", 30) as cluster:
        yield cluster


@asynccontextmanager
async def connected(folder: Path, address: str, seconds: float) -> AsyncGenerator[Cluster]:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_bytes(orjson.dumps(kubeconfig_of(address)))
    patience = aiohttp.ClientTimeout(total=seconds)
    transport = Transport(await configuration(kubeconfig), patience)
    try:
        yield Cluster(transport)
    finally:
        await transport.close()


def kubeconfig_of(address: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "strange",
        "contexts": [{"name": "strange", "context": {"cluster": "strange", "user": "me"}}],
        "clusters": [{"name": "strange", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": "open-sesame"}}],
    }


async def test_every_request_is_signed_and_names_the_operator(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(saying(200, {}))
    await cluster.get(PODS, "shop", "web")

    headers = server.asked[0].headers
    assert headers["Authorization"] == "Bearer open-sesame"
    assert headers["User-Agent"] == "flowworker-operator"


async def test_a_silent_server_is_unavailable(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(silence)
    with pytest.raises(Unavailable, match="did not answer in time") as caught:
        await cluster.patch(PODS, "shop", "web", {})

    assert (caught.value.status, caught.value.reason) == (0, "Timeout")


async def test_an_answer_that_breaks_off_is_unavailable(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(half_an_answer)
    with pytest.raises(Unavailable) as caught:
        await cluster.list(PODS, "shop")

    assert caught.value.reason == "Unreachable"


async def test_something_else_than_an_api_server_is_unavailable(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(saying(200, b"<html>please log in</html>"))
    with pytest.raises(Unavailable, match="something else"):
        await cluster.get(PODS, "shop", "web")


async def test_an_object_nested_deeper_than_a_parser_goes_hides_no_other(
    server: StrangeServer, cluster: Cluster
) -> None:
    deep = b'{"a":' * 9990 + b"1" + b"}" * 9990
    names = (b'{"metadata":{"name":"%s"},"spec":%s}' % (name, spec) for name, spec in ((b"a", deep), (b"b", b"{}")))
    server.answers.append(saying(200, b'{"metadata":{},"items":[%s]}' % b",".join(names)))
    found = await cluster.list(PODS, "shop")

    assert [pod["metadata"]["name"] for pod in found] == ["a", "b"]


async def test_a_port_without_a_listener_is_unavailable(tmp_path: Path, unused_tcp_port: int) -> None:
    async with connected(tmp_path, f"http://127.0.0.1:{unused_tcp_port}", 0.5) as cluster:
        with pytest.raises(Unavailable, match="Cannot connect"):
            await cluster.get(PODS, "shop", "web")


async def test_a_busy_server_is_left_alone_for_as_long_as_it_wants(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(saying(429, {"kind": "Status", "reason": "TooManyRequests"}, **{"Retry-After": "4"}))
    with pytest.raises(Unavailable) as caught:
        await cluster.list(PODS, "shop")

    assert caught.value.retry_after == 4


def expired(token: str = "") -> Answerer:
    status = {"kind": "Status", "reason": "Expired", "message": "too old", "metadata": {"continue": token}}
    return saying(410, status)


async def test_pages_that_expire_go_on_where_the_server_offers_to(server: StrangeServer, cluster: Cluster) -> None:
    server.answers += [page("a", token="more"), expired("anew"), page("b")]
    found = await cluster.list(PODS, None, labels="app=web")

    assert [pod["metadata"]["name"] for pod in found] == ["a", "b"]
    assert [dict(request.query) for request in server.asked] == [
        {"labelSelector": "app=web", "limit": str(client.FIRST_PAGE)},
        {"labelSelector": "app=web", "limit": str(2 * client.FIRST_PAGE), "continue": "more"},
        {"labelSelector": "app=web", "limit": str(2 * client.FIRST_PAGE), "continue": "anew"},
    ]


async def test_pages_that_expire_for_good_are_read_from_the_beginning(server: StrangeServer, cluster: Cluster) -> None:
    server.answers += [page("a", token="more"), expired(), page("a", "b")]
    assert [pod["metadata"]["name"] for pod in await cluster.list(PODS, None)] == ["a", "b"]
    assert "continue" not in server.asked[2].query
    server.answers += [expired()] * (client.MOST_EXPIRIES + 1)
    with pytest.raises(Refused, match="too old"):
        await cluster.list(PODS, None)


def test_pages_are_as_large_as_the_objects_allow_and_grow_step_by_step() -> None:
    assert client.next_limit(8, 8, 16 * 1024) == 16
    assert client.next_limit(400, 400, 400 * 1024) == client.LARGEST_PAGE
    assert client.next_limit(8, 8, 8 * 1_400_000) == 2
    assert client.next_limit(1, 1, 100 * 1_400_000) == 1
    assert client.next_limit(8, 0, 200) == 1


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2 * LARGEST_ANSWER // MIB):
        await response.write(b" " * MIB)
    return response


async def test_a_page_that_is_too_large_is_asked_for_in_parts(server: StrangeServer, patient: Cluster) -> None:
    server.answers += [endless, endless, page("a", "b", token="more"), page("c")]
    found = await patient.list(PODS, "shop")

    assert [pod["metadata"]["name"] for pod in found] == ["a", "b", "c"]
    assert [request.query["limit"] for request in server.asked] == ["8", "4", "2", "4"]


async def test_an_object_that_is_too_large_is_named_and_left_out(server: StrangeServer, patient: Cluster) -> None:
    table = saying(200, {"kind": "Table", "metadata": {"continue": "c"}, "rows": [{"cells": ["huge", "1/1"]}]})
    server.answers += [page("a", token="b"), *[endless] * 5, table, page("c")]
    with capture_logs() as lines:
        found = await patient.list(PODS, "shop", labels="app=web")

    assert [pod["metadata"]["name"] for pod in found] == ["a", "c"]
    asked = server.asked[-2]
    assert "as=Table" in asked.headers["Accept"]
    assert dict(asked.query) == {"labelSelector": "app=web", "limit": "1", "continue": "b", "includeObject": "None"}
    assert server.asked[-1].query["continue"] == "c"
    assert [line["name"] for line in lines] == ["huge"]


async def test_a_continuation_arrives_as_it_was_given(server: StrangeServer, cluster: Cluster) -> None:
    token = "a+b/c==&limit=9"
    server.answers += [page("a", token=token), page("b")]
    await cluster.list(PODS, "shop")

    assert server.asked[1].query["continue"] == token


async def test_a_list_that_fails_otherwise_fails(server: StrangeServer, cluster: Cluster) -> None:
    server.answers.append(saying(400, {"kind": "Status", "reason": "BadRequest", "message": "no such label"}))
    with pytest.raises(Refused, match="no such label"):
        await cluster.list(PODS, "shop", labels="???")


async def test_a_name_that_is_none_is_refused_without_asking(server: StrangeServer, cluster: Cluster) -> None:
    with pytest.raises(Refused, match="cannot be the name"):
        await cluster.get(PODS, "shop", "..")

    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_request_needs_no_thread_of_the_pool_that_all_share(
    server: StrangeServer, port: int, tmp_path: Path, host: str
) -> None:
    end, taken = threading.Event(), (os.cpu_count() or 1) + 100
    waiting = [asyncio.get_running_loop().run_in_executor(None, end.wait, 30) for _ in range(taken)]
    server.answers.append(saying(200, {}))
    try:
        async with connected(tmp_path, f"http://{host}:{port}", 10) as cluster:
            assert await cluster.get(PODS, "shop", "web") == {}
    finally:
        end.set()
        await asyncio.gather(*waiting)


async def test_a_proxy_that_the_environment_names_is_used(
    server: StrangeServer, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for address in ("http://api.example:81", f"http://127.0.0.1:{port}"):
        server.answers.append(saying(200, {}))
        async with connected(tmp_path, address, 10) as cluster:
            await cluster.get(PODS, "shop", "web")
    assert [one.url.host for one in server.asked] == ["api.example", "127.0.0.1"]


async def test_no_page_is_read_after_as_many_objects_as_are_wanted(server: StrangeServer, cluster: Cluster) -> None:
    server.answers += [page("a", "b", token="more"), page("c", token="more")]
    found = await cluster.list(PODS, "shop", most=3)

    assert [pod["metadata"]["name"] for pod in found] == ["a", "b", "c"]
