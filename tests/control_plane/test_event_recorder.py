"""Events on a real API server, as `kubectl describe` shows them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from testkit.cluster.control_plane import ControlPlane
from testkit.support.kubectl import kubectl_says
from testkit.support.waiting import hold_for, until
from tests.unit.operator import samples

from flowworker_operator.bounded import RateLimit
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.events import Bounds, EventRecorder
from flowworker_operator.cluster.resources import EVENTS, FLOWWORKERS, Object
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Claim

SCALED = Event(type="Normal", reason="ScaledUp", message="from 0 to 3 workers")
DOWN = Event(type="Warning", reason="DatabaseUnreachable", message="no route to the database")

RULES = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]
"""The rights that recording events needs."""


@dataclass(slots=True)
class Clock:
    """The time of day, which goes on when asked."""

    now: datetime = samples.NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncGenerator[Cluster]:
    """A client, as admin."""
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        yield cluster


@pytest.fixture
async def reporter(control_plane: ControlPlane, namespace: str) -> AsyncGenerator[Cluster]:
    """A client that may do nothing but record events."""
    async with Cluster.connect(control_plane.user(f"teller-{namespace}", RULES, namespace)) as reporter:
        yield reporter


@pytest.fixture
async def claim(cluster: Cluster, namespace: str) -> Claim:
    """A FlowWorker that exists."""
    metadata = {"namespace": namespace, "name": "report"}
    body = {"apiVersion": FLOWWORKERS.api_version, "kind": FLOWWORKERS.kind, "metadata": metadata}
    made = await cluster.create(FLOWWORKERS, {**body, "spec": samples.manifest()})
    return Claim(
        namespace=namespace, name="report", uid=made["metadata"]["uid"], created_at=samples.NOW, kind="flow", slug="a"
    )


def recorder(cluster: Cluster, bounds: Bounds | None = None, clock: Clock | None = None) -> EventRecorder:
    return EventRecorder(cluster, instance="operator-0", bounds=bounds, wall=clock or Clock())


async def events_about(cluster: Cluster, claim: Claim) -> list[Object]:
    """What `kubectl describe` would show, by reason."""
    events = [event for event in await cluster.list(EVENTS, claim.namespace) if about(event, claim)]
    return sorted(events, key=lambda event: event["reason"])


def about(event: Object, claim: Claim) -> bool:
    return event["involvedObject"]["uid"] == claim.uid


async def test_an_event_is_about_its_flowworker(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    async with recorder(reporter) as events:
        events.record(claim, SCALED)
    (event,) = await events_about(cluster, claim)

    assert (event["type"], event["reason"], event["message"]) == ("Normal", "ScaledUp", "from 0 to 3 workers")
    assert event["involvedObject"]["kind"] == "FlowWorker"
    assert event["source"]["component"] == event["reportingComponent"] == "flowworker-operator"
    assert event["reportingInstance"] == "operator-0"
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T12:00:00Z"


async def test_the_event_is_found_by_kubectl(control_plane: ControlPlane, reporter: Cluster, claim: Claim) -> None:
    async with recorder(reporter) as events:
        events.record(claim, DOWN)
    arguments = ("--namespace", claim.namespace, "describe", "flowworker", claim.name)
    described = await asyncio.to_thread(kubectl_says, control_plane.kubeconfig, *arguments)

    assert any(
        line.split()[:2] == ["Warning", "DatabaseUnreachable"] and "flowworker-operator" in line
        for line in described.splitlines()
    )


async def test_a_repetition_is_counted(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    clock = Clock()
    async with recorder(reporter, clock=clock) as events:
        for _ in range(3):
            events.record(claim, SCALED)
            events.record(claim, DOWN)
            await until_events_about(cluster, claim, 2)
            clock.now += timedelta(minutes=1)
    down, scaled = await events_about(cluster, claim)

    assert (down["count"], scaled["count"]) == (3, 3)
    assert (scaled["firstTimestamp"], scaled["lastTimestamp"]) == ("2026-01-01T12:00:00Z", "2026-01-01T12:02:00Z")


async def until_events_about(cluster: Cluster, claim: Claim, number: int) -> None:
    async def enough() -> bool:
        return len(await events_about(cluster, claim)) >= number

    await until(enough, f"{number} events are told")


async def test_a_restarted_operator_goes_on_counting(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    for _ in range(2):
        async with recorder(reporter) as events:
            events.record(claim, SCALED)
    (event,) = await events_about(cluster, claim)

    assert event["count"] == 2


async def test_an_event_that_the_server_forgot_is_written_anew(
    cluster: Cluster, reporter: Cluster, claim: Claim
) -> None:
    async with recorder(reporter) as events:
        events.record(claim, SCALED)
        await until_events_about(cluster, claim, 1)
        (event,) = await events_about(cluster, claim)
        await cluster.delete(EVENTS, claim.namespace, event["metadata"]["name"])
        events.record(claim, SCALED)
    (again,) = await events_about(cluster, claim)

    assert again["count"] == 1
    assert again["metadata"]["uid"] != event["metadata"]["uid"]


async def test_other_words_and_a_successor_have_events_of_their_own(
    cluster: Cluster, reporter: Cluster, claim: Claim
) -> None:
    other_words = Event(type="Normal", reason="ScaledUp", message="from 3 to 5 workers")
    successor = Claim(
        namespace=claim.namespace, name=claim.name, uid="another", created_at=samples.NOW, kind="flow", slug="a"
    )
    async with recorder(reporter) as events:
        events.record(claim, SCALED)
        events.record(claim, other_words)
        events.record(successor, SCALED)

    assert len(await events_about(cluster, claim)) == 2
    assert len(await events_about(cluster, successor)) == 1


async def test_chatter_is_cut_off_and_hides_no_warning(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    bounds = Bounds(allowance=RateLimit(burst=3, per_second=0))
    async with recorder(reporter, bounds) as events:
        for number in range(10):
            events.record(claim, Event(type="Normal", reason="ScaledUp", message=f"to {number} workers"))
        events.record(claim, DOWN)

    assert len(await events_about(cluster, claim)) == 4
    assert events.dropped == 7


async def test_a_long_message_is_cut(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    async with recorder(reporter) as events:
        events.record(claim, Event(type="Warning", reason="BadHandler", message="x" * 5000))
    (event,) = await events_about(cluster, claim)

    assert len(event["message"]) == 1024


async def test_what_moves_a_terminal_is_left_out(cluster: Cluster, reporter: Cluster, claim: Claim) -> None:
    async with recorder(reporter) as events:
        events.record(claim, Event(type="Warning", reason="BadHandler", message="\x1b[31mred\u202e\x9b\nmore"))
    (event,) = await events_about(cluster, claim)

    assert event["message"] == "[31mred\nmore"


async def test_an_event_that_may_not_be_written_is_dropped_and_the_rest_is_written(
    cluster: Cluster, reporter: Cluster, claim: Claim, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = replace(claim, namespace="default", name="other", uid="other")
    async with recorder(reporter) as events:
        events.record(elsewhere, SCALED)
        events.record(claim, SCALED)

    assert len(await events_about(cluster, claim)) == 1
    assert events.dropped == 1
    assert any("cannot create resource" in message for message in caplog.messages)


async def test_nothing_is_taken_after_the_end(reporter: Cluster, claim: Claim) -> None:
    async with recorder(reporter) as events:
        pass
    events.record(claim, SCALED)

    assert events.dropped == 1


@asynccontextmanager
async def passage(port: int, target: int) -> AsyncGenerator[None]:
    """Another way to a server of loopback."""
    pumps: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", target)
        pumps.update({asyncio.create_task(pump(reader, forth)), asyncio.create_task(pump(back, writer))})

    async with await asyncio.start_server(take, "127.0.0.1", port):
        yield
        for one in pumps:
            one.cancel()
        await asyncio.wait(pumps)


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
    finally:
        target.close()


def kubeconfig_by(port: int, control_plane: ControlPlane, folder: Path) -> Path:
    """The admin's, by another way."""
    document: Object = orjson.loads(control_plane.kubeconfig.read_bytes())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = folder / "kubeconfig"
    path.write_bytes(orjson.dumps(document))
    return path


async def test_events_wait_for_a_server_that_is_away(
    control_plane: ControlPlane, cluster: Cluster, claim: Claim, unused_tcp_port: int, tmp_path: Path
) -> None:
    bounds = Bounds(waiting=3, first_pause=0.1, longest_pause=0.2)
    kubeconfig = kubeconfig_by(unused_tcp_port, control_plane, tmp_path)
    async with Cluster.connect(kubeconfig) as far, recorder(far, bounds) as events:
        for number in range(6):
            events.record(claim, Event(type="Normal", reason=f"R{number}", message="m"))
            events.record(claim, DOWN)
        await hold_for(0.5)
        async with passage(unused_tcp_port, control_plane.layout.ports.api):
            await until_events_about(cluster, claim, 3)
            await events.close()
    found = await events_about(cluster, claim)

    assert len(found) == 3
    assert sum(event["count"] for event in found) == 12 - events.dropped


async def test_an_end_does_not_wait_for_ever(
    control_plane: ControlPlane, claim: Claim, unused_tcp_port: int, tmp_path: Path
) -> None:
    kubeconfig = kubeconfig_by(unused_tcp_port, control_plane, tmp_path)
    async with Cluster.connect(kubeconfig) as nowhere, recorder(nowhere) as events:
        events.record(claim, SCALED)
        events.record(claim, DOWN)
        began = asyncio.get_running_loop().time()
        await events.close(patience=0.5)

        assert asyncio.get_running_loop().time() - began < 2
        assert events.dropped == 2
