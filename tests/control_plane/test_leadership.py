"""The election on a real API server, between processes that are frozen, killed and stopped."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from itertools import count, pairwise
from pathlib import Path

import pytest
from testkit.cluster.control_plane import ControlPlane
from testkit.support.waiting import hold_for, until
from tests.control_plane.candidate import LEASE

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.leadership import Leadership
from flowworker_operator.cluster.lease import Timing
from flowworker_operator.cluster.resources import LEASES, Object

ROOT = Path(__file__).resolve().parents[2]

RULES = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch"]}]
"""The rights that an election needs."""

QUICK = Timing(lease=3, deadline=2.0, retry=0.4)


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a candidate at itself."""

    at: int
    """Monotonic nanoseconds, which all processes share."""
    held: bool
    who: str


@dataclass(slots=True)
class Candidate:
    """A process of `candidate`."""

    name: str
    notes: Path
    process: asyncio.subprocess.Process

    def send_signal(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return time.monotonic_ns()

    def looks(self) -> list[Look]:
        """Everything noted so far."""
        lines = self.notes.read_text().split("\n")[:-1] if self.notes.exists() else []
        return [Look(int(at), held == "1", self.name) for at, held in (line.split() for line in lines)]

    def leads(self) -> bool:
        assert self.process.returncode is None, f"{self.name} ended"
        return bool(self.looks()) and self.looks()[-1].held

    def led_since(self, moment: int) -> Callable[[], int | None]:
        """When it first held the lease after a moment."""
        return lambda: next((look.at for look in self.looks() if look.held and look.at > moment), None)


Starter = Callable[[Timing], Awaitable[Candidate]]


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, namespace: str) -> Path:
    """Of a user who may do nothing but run for a Lease."""
    return control_plane.user(f"candidate-{namespace}", RULES, namespace)


@pytest.fixture
async def start(kubeconfig: Path, namespace: str, tmp_path: Path) -> AsyncGenerator[Starter]:
    """Starts candidates, which are gone after the test."""
    started: list[Candidate] = []
    numbers = count(1)

    async def start_one(timing: Timing) -> Candidate:
        name = f"candidate-{next(numbers)}"
        notes = tmp_path / name
        durations = [str(value) for value in astuple(timing)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.control_plane.candidate",
            str(kubeconfig), namespace, name, str(notes), *durations, cwd=ROOT,
        )  # fmt: skip
        started.append(Candidate(name, notes, process))
        return started[-1]

    yield start_one
    for candidate in started:
        if candidate.process.returncode is None:
            candidate.process.kill()
            await candidate.process.wait()


def reigns(looks: list[Look]) -> list[tuple[int, int]]:
    """Spans of time over which a candidate, look after look, thought it held the lease."""
    spans: list[tuple[int, int]] = []
    for before, look in pairwise([Look(0, False, ""), *looks]):
        if look.held:
            began = spans.pop()[0] if before.held else look.at
            spans.append((began, look.at))
    return spans


def assert_never_both(first: Candidate, second: Candidate) -> None:
    for mine in reigns(first.looks()):
        for theirs in reigns(second.looks()):
            assert mine[1] < theirs[0] or theirs[1] < mine[0], (mine, theirs)


def test_a_reign_lasts_from_look_to_look() -> None:
    looks = [Look(at, held, "a") for at, held in [(1, True), (2, True), (3, False), (5, True), (90, True)]]

    assert reigns(looks) == [(1, 2), (5, 90)]


async def test_a_leader_that_was_frozen_knows_at_its_first_look(start: Starter) -> None:
    first, second = await start(QUICK), await start(QUICK)
    for _ in range(3):
        await until(lambda: first.leads() or second.leads(), "one of them leads")
        await freeze_and_thaw(*((first, second) if first.leads() else (second, first)))

    assert_never_both(first, second)


async def freeze_and_thaw(leader: Candidate, other: Candidate) -> None:
    frozen = leader.send_signal(signal.SIGSTOP)
    await until(other.led_since(frozen), "the other one takes over")
    thawed = leader.send_signal(signal.SIGCONT)
    looks = await until(lambda: [look for look in leader.looks() if look.at > thawed], "the thawed one looks")

    assert not looks[0].held


async def test_a_leader_that_stops_hands_over_at_once(start: Starter) -> None:
    leader = await start(Timing())
    await until(leader.leads, "the first one leads")
    other = await start(Timing())
    await until(other.looks, "the second one is a candidate")
    await hold_for(Timing().retry)
    stopped = leader.send_signal(signal.SIGTERM)
    took_over = await until(other.led_since(stopped), "the other one takes over")

    assert await leader.process.wait() == 0
    assert (took_over - stopped) / 1e9 <= 3
    assert_never_both(leader, other)


@pytest.mark.slow
async def test_a_leader_that_is_killed_is_followed_within_20_seconds(start: Starter) -> None:
    leader = await start(Timing())
    await until(leader.leads, "the first one leads")
    other = await start(Timing())
    await until(other.looks, "the second one is a candidate")
    await hold_for(Timing().retry)
    killed = leader.send_signal(signal.SIGKILL)
    took_over = await until(other.led_since(killed), "the other one takes over")

    assert (took_over - killed) / 1e9 <= 20
    assert_never_both(leader, other)


@asynccontextmanager
async def leading(kubeconfig: Path, namespace: str, timing: Timing) -> AsyncGenerator[tuple[Leadership, Cluster]]:
    async with Cluster.connect(kubeconfig) as cluster:
        leadership = Leadership(cluster, namespace=namespace, name=LEASE, identity="operator-0", timing=timing)
        running = asyncio.create_task(leadership.run())
        await leadership.wait_held()
        yield leadership, cluster
        running.cancel()
        await asyncio.wait({running})


async def lease_of(cluster: Cluster, namespace: str) -> Object:
    lease = await cluster.get(LEASES, namespace, LEASE)
    assert lease is not None
    return lease["spec"]


async def test_the_lease_shows_who_leads(kubeconfig: Path, namespace: str) -> None:
    async with leading(kubeconfig, namespace, Timing()) as (leadership, cluster):
        first = await lease_of(cluster, namespace)

    assert first["holderIdentity"] == leadership.identity
    assert leadership.identity.startswith("operator-0_")
    assert first["leaseDurationSeconds"] == 15
    assert first["leaseTransitions"] == 0
    assert first["acquireTime"] == first["renewTime"]


async def test_each_new_leader_counts_a_transition(kubeconfig: Path, namespace: str) -> None:
    async with leading(kubeconfig, namespace, QUICK) as (first, cluster):
        before = await lease_of(cluster, namespace)
    assert not first.held
    async with leading(kubeconfig, namespace, QUICK) as (second, cluster):

        async def renewed() -> bool:
            return (await lease_of(cluster, namespace))["renewTime"] > acquired["acquireTime"]

        acquired = await lease_of(cluster, namespace)
        await until(renewed, "the lease is renewed")
        after = await lease_of(cluster, namespace)

    assert (first.transitions, second.transitions) == (0, 1)
    assert after["leaseTransitions"] == 1
    assert before["acquireTime"] < after["acquireTime"] == acquired["acquireTime"]


async def test_a_restart_of_the_api_server_costs_no_leadership(own_control_plane: ControlPlane) -> None:
    patient = Timing(lease=60, deadline=45.0, retry=0.5)
    async with leading(own_control_plane.kubeconfig, "default", patient) as (leadership, cluster):
        lost: list[float] = []

        async def watch() -> None:
            while True:
                if not leadership.held:
                    lost.append(time.monotonic())
                await asyncio.sleep(0.01)

        async def renewed() -> bool:
            return (await lease_of(cluster, "default"))["renewTime"] > before["renewTime"]

        watching = asyncio.create_task(watch())
        await asyncio.to_thread(own_control_plane.stop, "kube-apiserver")
        await hold_for(2 * patient.retry)
        await asyncio.to_thread(own_control_plane.start, "kube-apiserver")
        before = await lease_of(cluster, "default")
        await until(renewed, "the lease is renewed by a server that is back")
        watching.cancel()

        assert lost == []
        assert leadership.transitions == 0
