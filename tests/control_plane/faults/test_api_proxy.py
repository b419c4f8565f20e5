"""The proxy does to calls and events what it says, seen from the operator's own client and a real API server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import orjson
import pytest
from testkit.cluster.api import Api, Object
from testkit.cluster.control_plane import ControlPlane
from testkit.support.api_calls import Call, Place, writes
from testkit.support.api_faults import after, answers, before, delays, does_and_answers, repeats, resets
from testkit.support.api_proxy import ApiProxy, Fate, busiest_second, lenient
from testkit.support.proxy import Weather
from testkit.support.waiting import until

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Conflict, Unavailable
from flowworker_operator.cluster.resources import BUDGETS


class Truth:
    """What the API server holds, past the proxy."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = BUDGETS.path(namespace)

    def names(self) -> set[str]:
        return {item["metadata"]["name"] for item in self._api.get(self._path)["items"]}

    def create(self, manifest: Object) -> Object:
        return self._api.create(self._path, manifest)

    def delete(self, name: str) -> None:
        self._api.delete(f"{self._path}/{name}")


@pytest.fixture
def truth(control_plane: ControlPlane, namespace: str) -> Truth:
    return Truth(control_plane.api, namespace)


@pytest.fixture
async def cluster(proxy: ApiProxy) -> AsyncIterator[Cluster]:
    async with Cluster.connect(proxy.kubeconfig) as cluster:
        yield cluster


def budget(namespace: str, name: str = "one") -> Object:
    metadata = {"namespace": namespace, "name": name}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": BUDGETS.api_version, "kind": BUDGETS.kind, "metadata": metadata, "spec": spec}


class Watch:
    """A watch of budgets through the proxy."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def event(self) -> tuple[str, str]:
        """Type of the next event, and the name of its object."""
        line = await asyncio.wait_for(self._response.content.readline(), 5)
        if not line:
            return "END", ""
        event: Object = orjson.loads(line)
        nothing: Object = {}
        return event["type"], event["object"].get("metadata", nothing).get("name", "")

    async def silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long; a piece of an event that does come is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._response.content.readline()
                return False
        return True


@pytest.fixture
async def watch(proxy: ApiProxy, namespace: str) -> AsyncGenerator[Watch]:
    api = Api.from_kubeconfig(proxy.kubeconfig)
    url = f"{api.server}{BUDGETS.path(namespace)}?watch=true"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=api.context) as response:
        assert response.status == 200
        yield Watch(response)


async def test_calls_pass_and_are_distinguished(
    proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth
) -> None:
    await cluster.create(BUDGETS, budget(namespace))
    await cluster.list(BUDGETS, namespace)
    await cluster.get(BUDGETS, namespace, "one")
    await cluster.patch(BUDGETS, namespace, "one", {"metadata": {"labels": {"a": "b"}}}, uid=None)
    await cluster.delete(BUDGETS, namespace, "one")
    assert [(call.label, call.name, call.number, call.done) for call in proxy.calls] == [
        ("create poddisruptionbudgets", "one", 1, True),
        ("list poddisruptionbudgets", "", 0, True),
        ("get poddisruptionbudgets", "one", 0, True),
        ("patch poddisruptionbudgets", "one", 2, True),
        ("delete poddisruptionbudgets", "one", 3, True),
    ]
    assert truth.names() == set()


async def test_the_api_server_sees_the_client_itself(
    cluster: Cluster, control_plane: ControlPlane, namespace: str
) -> None:
    await cluster.create(BUDGETS, budget(namespace))
    users = {one["user"]["username"] for one in control_plane.audited() if f"/{namespace}/pod" in one["requestURI"]}
    assert f"{namespace}-proxied" in users


async def test_an_action_before_a_write_prevents_it(
    proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth
) -> None:
    seen: list[set[str]] = []

    async def look() -> None:
        seen.append(truth.names())

    trap = proxy.intercept(writes, before(look), times=1)
    with pytest.raises(Unavailable):
        await cluster.create(BUDGETS, budget(namespace))
    assert trap.happened.is_set()
    assert seen == [set()]
    assert truth.names() == set()
    await cluster.create(BUDGETS, budget(namespace))


async def test_an_action_after_a_write_comes_before_the_client_knows(
    proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth
) -> None:
    seen: list[set[str]] = []

    async def look() -> None:
        seen.append(truth.names())

    proxy.intercept(writes, after(look), times=1)
    with pytest.raises(Unavailable):
        await cluster.create(BUDGETS, budget(namespace))
    assert seen == [{"one"}]


async def test_a_made_up_answer_is_understood_as_the_servers(
    proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth
) -> None:
    proxy.intercept(writes, answers(409), times=1)
    with pytest.raises(Conflict):
        await cluster.create(BUDGETS, budget(namespace))
    proxy.intercept(writes, answers(429, retry_after=7), times=1)
    with pytest.raises(Unavailable) as caught:
        await cluster.create(BUDGETS, budget(namespace))
    assert caught.value.retry_after == 7
    proxy.intercept(writes, resets(), times=1)
    with pytest.raises(Unavailable):
        await cluster.create(BUDGETS, budget(namespace))
    assert truth.names() == set()
    proxy.intercept(writes, does_and_answers(504), times=1)
    with pytest.raises(Unavailable):
        await cluster.create(BUDGETS, budget(namespace))
    assert truth.names() == {"one"}
    assert [call.done for call in proxy.writes] == [False, False, False, True]


async def test_an_old_list_can_be_sent_again(proxy: ApiProxy, cluster: Cluster, namespace: str) -> None:
    await cluster.create(BUDGETS, budget(namespace))
    await cluster.list(BUDGETS, namespace)
    old = proxy.calls[-1].answer
    assert old is not None
    await cluster.delete(BUDGETS, namespace, "one")
    proxy.intercept(lambda call: call.verb == "list", repeats(old), times=1)
    assert [item["metadata"]["name"] for item in await cluster.list(BUDGETS, namespace)] == ["one"]
    assert await cluster.list(BUDGETS, namespace) == []


async def test_an_answer_can_be_late(proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth) -> None:
    now = asyncio.Event()
    proxy.intercept(writes, delays(now), times=1)
    creating = asyncio.create_task(cluster.create(BUDGETS, budget(namespace)))
    await until(lambda: truth.names() == {"one"}, "the server has done it")
    assert not creating.done()
    now.set()
    await creating


async def test_events_pass_one_by_one(watch: Watch, namespace: str, truth: Truth) -> None:
    truth.create(budget(namespace))
    assert await watch.event() == ("ADDED", "one")
    truth.delete("one")
    while (event := await watch.event())[0] == "MODIFIED":  # the disruption controller's
        pass
    assert event == ("DELETED", "one")


async def test_events_are_dropped_and_held_as_asked(
    proxy: ApiProxy, watch: Watch, namespace: str, truth: Truth
) -> None:
    def judge(_call: Call, event: Object) -> Fate:
        return {"one": Fate.DROP, "two": Fate.HOLD}.get(event["object"]["metadata"]["name"], Fate.PASS)

    proxy.judge = judge
    for name in ("one", "two", "three"):
        truth.create(budget(namespace, name))
    assert await watch.silent_for(0.3)
    proxy.judge = lenient
    assert await watch.event() == ("ADDED", "two")


async def test_expired_watches_end_with_the_servers_words(proxy: ApiProxy, watch: Watch) -> None:
    assert await proxy.expire_watches() == 1
    assert await watch.event() == ("ERROR", "")
    assert await watch.event() == ("END", "")
    await until(lambda: proxy.open_watches == 0, "the watch is closed")


async def test_what_is_held_arrives_later(
    proxy: ApiProxy, cluster: Cluster, watch: Watch, namespace: str, truth: Truth
) -> None:
    proxy.weather = Weather.HELD
    creating = asyncio.create_task(cluster.create(BUDGETS, budget(namespace)))
    assert await watch.silent_for(0.2)
    assert truth.names() == set()
    proxy.weather = Weather.CLEAR
    await creating
    assert await watch.event() == ("ADDED", "one")


async def test_what_is_swallowed_is_never_answered(
    proxy: ApiProxy, cluster: Cluster, namespace: str, truth: Truth
) -> None:
    proxy.weather = Weather.SWALLOWED
    creating = asyncio.create_task(cluster.create(BUDGETS, budget(namespace)))
    await until(lambda: proxy.writes, "the request has come")
    proxy.weather = Weather.CLEAR
    done, _ = await asyncio.wait({creating}, timeout=0.3)
    assert not done
    proxy.reset()
    with pytest.raises(Unavailable):
        await creating
    assert truth.names() == set()


async def test_a_server_that_is_away_resets_connections_and_every_attempt_is_counted(
    proxy: ApiProxy, cluster: Cluster, watch: Watch, namespace: str
) -> None:
    proxy.weather = Weather.REFUSED
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        assert await watch.event() == ("END", "")
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await cluster.create(BUDGETS, budget(namespace))
    assert len(proxy.since(began)) == 3
    proxy.weather = Weather.CLEAR
    await cluster.create(BUDGETS, budget(namespace))


def test_the_busiest_second_is_found() -> None:
    def call(at: float) -> Call:
        return Call(at=at, number=0, method="GET", verb="get", place=Place(), query={}, body={})

    assert busiest_second([]) == 0
    assert busiest_second(map(call, (0.0, 0.9, 1.5, 1.6, 1.7, 2.6))) == 4
