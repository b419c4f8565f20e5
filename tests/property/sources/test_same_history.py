"""Random operations give the same observable history on PostgreSQL and on the in-memory twin."""

import asyncio
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.conftest import Database
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend
from tests.integration.sources.world import RELEASED, World, completed, failed

from flowworker.database.records import ClaimedTask, Outcome, TaskResult
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.definition.step import AnyStep
from flowworker.runtime.source import Claim, Finish, Source

T = TypeVar("T")

WORKERS = 2
EVERYTHING = 100
"""A claim always takes all there is: nothing promises the order of steps that become ready at once."""

DELAY = 1000
"""Seconds of every backoff. Real time passes on one side only, so nothing may depend on little of it."""

_numbers = count(1)

Place = tuple[UUID | None, str, int]

SHAPES = st.lists(
    st.tuples(st.sampled_from(["single", "map"]), st.sets(st.integers(0, 3), max_size=2)), min_size=1, max_size=4
)
OUTCOMES = st.sampled_from(
    [
        *[completed(value) for value in ([], [1, None], [[2]], "no list", None)],
        *[completed([0, 1])] * 3,
        failed(),
        failed(retry_after=DELAY / 2),
        failed(final=True),
        RELEASED,
    ]
)


def build(shape: list[tuple[str, set[int]]]) -> Flow:
    """A flow of random shape; maps need one step to map over, or none."""
    flow = Flow(f"random_{next(_numbers)}", max_attempts=3, base_delay=DELAY, timeout=10 * DELAY)
    steps: list[AnyStep] = []
    for number, (kind, wanted) in enumerate(shape):
        needed = [steps[index] for index in sorted(wanted) if index < number]
        if kind == "map":

            async def element(value: Any) -> Any:
                return value

            over: Any = needed[0] if needed else None
            decorate = cast("Any", flow).map(over=over, slug=f"step_{number}")
            steps.append(decorate(element))
        else:

            async def single(value: Any) -> list[Any]:
                return value

            steps.append(flow.step(after=needed, slug=f"step_{number}")(single))
    return flow


def place_of(task: ClaimedTask) -> Place:
    return task.run_id, task.step_slug, task.task_index


def seen_in_claim(claim: Claim) -> Any:
    """What a claim shows, without what may differ."""
    tasks = sorted(claim.tasks, key=lambda task: (str(task.run_id), task.step_slug, task.task_index, task.msg_id))
    shown = [
        (
            task.run_id, task.step_slug, task.task_index, task.attempt, task.max_attempts, task.timeout, task.losses,
            orjson.loads(task.input), None if task.flow_input is None else orjson.loads(task.flow_input),
        )
        for task in tasks
    ]  # fmt: skip
    return shown, claim.read, claim.unstartable, claim.returned


def seen_in_finish(finish: Finish) -> Any:
    receipts = [(receipt.verdict, receipt.retry_in, receipt.error) for receipt in finish.receipts]
    return receipts, sorted((str(end.run_id), end.status, end.error) for end in finish.ended_runs)


class Side:
    """One of the two worlds."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.sources: list[Source] = []
        self.held: list[dict[Place, ClaimedTask]] = [{} for _ in range(WORKERS)]
        self.stale: list[tuple[int, TaskResult]] = []

    async def open(self, workload: Flow | Queue, worker_ids: list[UUID]) -> None:
        await self.backend.add(workload)
        self.sources = [await self.backend.source(workload, worker_id) for worker_id in worker_ids]

    async def claim(self, worker: int, forgotten: int) -> Any:
        kept = dict(sorted(self.held[worker].items(), key=lambda item: str(item[0]))[forgotten:])
        claim = await self.sources[worker].claim(EVERYTHING, [task.msg_id for task in kept.values()])
        self.held[worker] = kept | {place_of(task): task for task in claim.tasks}
        return seen_in_claim(claim)

    async def finish(self, worker: int, outcomes: list[Outcome]) -> Any:
        places = sorted(self.held[worker], key=str)[: len(outcomes)]
        results = [
            TaskResult(task=self.held[worker].pop(place), outcome=outcome)
            for place, outcome in zip(places, outcomes, strict=False)
        ]
        self.stale.extend((worker, result) for result in results)
        return seen_in_finish(await self.sources[worker].finish(results))

    async def repeat(self, which: int) -> Any:
        worker, result = self.stale[which % len(self.stale)]
        return seen_in_finish(await self.sources[worker].finish([result]))[0]


class Histories(RuleBasedStateMachine):
    """Does everything on both sides and compares what is to be seen."""

    world: World
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.memory = Side(MemoryBackend())
        self.postgres = Side(PostgresBackend(self.world))
        self.runs: list[UUID] = []
        self.slug = ""

    def teardown(self) -> None:
        self.runner.run(self.world.close())

    def both(self, memory: Coroutine[Any, Any, T], postgres: Coroutine[Any, Any, T]) -> T:
        """Run on both sides; what they show must be equal."""
        expected, found = self.runner.run(memory), self.runner.run(postgres)
        assert found == expected
        return found

    @precondition(lambda self: self.runs)
    @invariant()
    def runs_and_tasks_are_equal(self) -> None:
        for run_id in self.runs:
            self.both(self.memory.backend.run(run_id), self.postgres.backend.run(run_id))
            self.both(self.memory.backend.tasks(run_id), self.postgres.backend.tasks(run_id))


class FlowHistories(Histories):
    """A flow of random shape, several runs, two workers that finish, forget, die and come back."""

    @initialize(shape=SHAPES)
    def create(self, shape: list[tuple[str, set[int]]]) -> None:
        flow = build(shape)
        self.slug = flow.slug
        worker_ids = [uuid4() for _ in range(WORKERS)]
        self.workers = worker_ids
        self.both(self.memory.open(flow, worker_ids), self.postgres.open(flow, worker_ids))
        self.workload = flow
        self.start([1, None, {"a": [2]}])

    @rule(value=st.sampled_from([[], [1], [1, None, {"a": [2]}]]))
    def start(self, value: object) -> None:
        run_id = uuid4()
        self.both(
            self.memory.backend.start(self.slug, value, run_id), self.postgres.backend.start(self.slug, value, run_id)
        )
        self.runs.append(run_id)

    @rule(worker=st.integers(0, WORKERS - 1), forgotten=st.sampled_from([0, 0, 0, 1, 9]))
    def claim(self, worker: int, forgotten: int) -> None:
        self.both(self.memory.claim(worker, forgotten), self.postgres.claim(worker, forgotten))

    @rule(worker=st.integers(0, WORKERS - 1), outcomes=st.lists(OUTCOMES, min_size=2, max_size=6), wait=st.booleans())
    def turn(self, worker: int, outcomes: list[Outcome], wait: bool) -> None:
        """What a worker does most of the time."""
        self.claim(worker, 0)
        self.finish(worker, outcomes)
        if wait:
            self.pass_time(4 * DELAY)

    @precondition(lambda self: any(self.memory.held))
    @rule(worker=st.integers(0, WORKERS - 1), outcomes=st.lists(OUTCOMES, min_size=1, max_size=5))
    def finish(self, worker: int, outcomes: list[Outcome]) -> None:
        self.both(self.memory.finish(worker, outcomes), self.postgres.finish(worker, outcomes))

    @precondition(lambda self: self.memory.stale)
    @rule(which=st.integers(0, 1000))
    def repeat(self, which: int) -> None:
        self.both(self.memory.repeat(which), self.postgres.repeat(which))

    @rule(seconds=st.sampled_from([DELAY / 2, DELAY, 4 * DELAY, 20 * DELAY]))
    def pass_time(self, seconds: float) -> None:
        self.both(
            self.memory.backend.pass_time(self.slug, seconds), self.postgres.backend.pass_time(self.slug, seconds)
        )

    @rule(worker=st.integers(0, WORKERS - 1))
    def die(self, worker: int) -> None:
        """A worker dies, another one recovers, and a new incarnation takes its place."""
        successor = uuid4()
        self.both(self._die(self.memory, worker, successor), self._die(self.postgres, worker, successor))
        self.workers[worker] = successor

    async def _die(self, side: Side, worker: int, successor: UUID) -> Any:
        observer = side.sources[(worker + 1) % WORKERS]
        recovery = await observer.recover([await side.backend.peer(self.workers[worker])])
        side.held[worker] = {}
        side.stale = [(owner, result) for owner, result in side.stale if owner != worker]
        side.sources[worker] = await side.backend.source(self.workload, successor)
        return recovery.released, recovery.failed, recovery.archived, list(recovery.lost)


class QueueHistories(Histories):
    """A queue with two workers whose leases run out."""

    @initialize()
    def create(self) -> None:
        queue = Queue(f"random_{next(_numbers)}", max_attempts=3, base_delay=DELAY, timeout=60)
        self.slug = queue.name
        self.jobs: list[int] = []
        worker_ids = [uuid4() for _ in range(WORKERS)]
        self.both(self.memory.open(queue, worker_ids), self.postgres.open(queue, worker_ids))
        self.send("first")

    @rule(payload=st.sampled_from([None, 0, "text", {"a": [1]}]))
    def send(self, payload: object) -> None:
        sent = self.both(self.memory.backend.send(self.slug, payload), self.postgres.backend.send(self.slug, payload))
        self.jobs.append(sent)

    @rule(worker=st.integers(0, WORKERS - 1))
    def claim(self, worker: int) -> None:
        self.memory.held[worker], self.postgres.held[worker] = {}, {}
        self.both(self._claim(self.memory, worker), self._claim(self.postgres, worker))

    async def _claim(self, side: Side, worker: int) -> Any:
        claim = await side.sources[worker].claim(EVERYTHING, ())
        side.held[worker] = {(None, "", task.msg_id): task for task in claim.tasks}
        return seen_in_claim(claim)

    @rule(worker=st.integers(0, WORKERS - 1), outcomes=st.lists(OUTCOMES, min_size=1, max_size=5), wait=st.booleans())
    def turn(self, worker: int, outcomes: list[Outcome], wait: bool) -> None:
        """What a worker does most of the time."""
        self.claim(worker)
        self.finish(worker, outcomes)
        if wait:
            self.pass_time(4 * DELAY)

    @precondition(lambda self: any(self.memory.held))
    @rule(worker=st.integers(0, WORKERS - 1), outcomes=st.lists(OUTCOMES, min_size=1, max_size=5))
    def finish(self, worker: int, outcomes: list[Outcome]) -> None:
        self.both(self.memory.finish(worker, outcomes), self.postgres.finish(worker, outcomes))

    @rule(seconds=st.sampled_from([DELAY / 2, DELAY, 4 * DELAY, 20 * DELAY]))
    def pass_time(self, seconds: float) -> None:
        self.both(
            self.memory.backend.pass_time(self.slug, seconds), self.postgres.backend.pass_time(self.slug, seconds)
        )

    @rule(worker=st.integers(0, WORKERS - 1))
    def extend(self, worker: int) -> None:
        self.both(self._extend(self.memory, worker), self._extend(self.postgres, worker))

    async def _extend(self, side: Side, worker: int) -> Any:
        return await side.backend.prolong(side.sources[worker], list(side.held[worker].values()))

    @precondition(lambda self: self.jobs)
    @invariant()
    def headers_are_equal(self) -> None:
        for msg_id in self.jobs:
            self.both(self.memory.backend.job(self.slug, msg_id), self.postgres.backend.job(self.slug, msg_id))


@pytest.mark.parametrize("machine", [FlowHistories, QueueHistories])
def test_random_operations_look_the_same_on_postgresql_and_in_memory(machine: type[Histories], blank: Database) -> None:
    with asyncio.Runner() as runner:

        async def connect() -> World:
            return World(database=blank, owner=await blank.connect())

        machine.runner, machine.world = runner, runner.run(connect())
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=25,
                    stateful_step_count=20,
                    deadline=None,
                    # Without shrinking: every example costs real transactions, and twenty steps are readable.
                    phases=[Phase.generate],
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            runner.run(machine.world.owner.close())
