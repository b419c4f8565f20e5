"""Values cross a real run: out of a handler, through PostgreSQL, into the step after it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from testkit.support.typed_values import VALUES, Leaf, Order
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.client import Client
from flowworker.database.records import RunStatus
from flowworker.definition.flow import Flow
from flowworker.definition.json_text import JsonText
from flowworker.definition.queue import Queue
from flowworker.runtime.worker import Worker
from flowworker.runtime.workload import JobRun

UNCHECKED = [HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large]
DIGITS = "12345678901234567890.123456789"


def examples() -> dict[Any, Any]:
    """One value of every type; chosen by chance, the same for a whole test."""
    found: dict[Any, Any] = {}

    @settings(
        max_examples=1,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=UNCHECKED,
    )
    @given(st.tuples(*VALUES.values()))
    def draw(values: tuple[Any, ...]) -> None:
        found.update(zip(VALUES, values, strict=True))

    draw()
    return found


def typed(name: str, annotations: dict[str, Any], body: Callable[..., Any]) -> Any:
    """A function with these annotations, that a decorator can take."""
    body.__name__ = name
    body.__annotations__ = annotations
    return body


async def test_a_value_of_every_type_reaches_the_next_step_as_it_was(world: World) -> None:
    flow = Flow("every_type", max_attempts=1, timeout=30)
    wanted = examples()
    received: dict[int, Any] = {}
    for number, (kind, value) in enumerate(wanted.items()):
        first, second = f"first_{number}", f"second_{number}"
        namespace: dict[str, Any] = {"received": received}
        exec(f"def take({first}):\n    received[{number}] = {first}\n    return {first}", namespace)
        flow.step(giver(first, kind, value))
        flow.step(typed(second, {first: kind, "return": kind}, namespace["take"]))

    await world.create(flow)
    async with world.worker(flow):
        run_id = await world.start_run(flow, None)
        status, output = await world.ended(run_id, patience=60)
    assert status == "completed"
    for number, (kind, value) in enumerate(wanted.items()):
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        assert received[number] == value, kind
        assert adapter.validate_json(orjson.dumps(output[f"second_{number}"])) == value, kind


def giver(name: str, kind: Any, value: Any) -> Any:
    """A handler without parameters that returns a value."""

    def give() -> Any:
        return value

    return typed(name, {"return": kind}, give)


async def test_digits_of_numbers_survive_a_run_input_a_map_and_the_steps_after(world: World) -> None:
    flow = Flow("digits", max_attempts=1, timeout=30)

    @flow.step
    async def prices(order: Order) -> list[Leaf]:
        return [Leaf(amount=order.price, tags=frozenset()), *order.lines]

    @flow.map(over=prices)
    async def amount(leaf: Leaf) -> Decimal:
        return leaf.amount

    @flow.step
    async def total(amount: list[Decimal], order: Order) -> dict[str, Decimal]:
        return {"sum": sum(amount, Decimal(0)), "price": order.price}

    await world.create(flow)
    text = f'{{"number": 1, "price": {DIGITS}, "placed_at": "2026-01-01", "lines": [{{"amount": 0.1, "tags": []}}]}}'
    async with world.worker(flow), Client(world.database.worker_dsn) as client:
        run = await client.start(flow, JsonText.parse(text))
        assert DIGITS in run.input_json.decode()
        run = await client.wait(run.run_id, timeout=30)
        assert run.status is RunStatus.COMPLETED, run.error
    assert run.output == {"total": {"sum": str(Decimal(DIGITS) + Decimal("0.1")), "price": DIGITS}}


async def test_digits_of_numbers_survive_a_job_and_its_result(world: World) -> None:
    queue = Queue("digits", max_attempts=1, timeout=30)

    @queue.job
    async def book(amounts: list[Decimal]) -> dict[str, Any]:
        return {"sum": sum(amounts, Decimal(0)), "whole": 2**70}

    await world.create(queue)
    async with world.worker(queue), Client(world.database.worker_dsn) as client:
        msg_id = await client.send(queue, JsonText.parse(f"[{DIGITS}, 1]"))
        await world.done(queue, msg_id)
        job = await client.job(queue, msg_id)
    assert job.payload_json.decode() == f"[{DIGITS}, 1]"
    assert job.result == {"sum": str(Decimal(DIGITS) + 1), "whole": 2**70}


async def test_a_worker_of_its_own_gets_large_whole_numbers_as_they_are(world: World) -> None:
    queue = Queue("large", max_attempts=1, timeout=30)
    got: list[Any] = []

    class Own(Worker):
        async def perform_work(self, job: JobRun) -> None:
            got.append(job.payload)

    await world.create(queue)
    async with world.worker(queue, Own), Client(world.database.worker_dsn) as client:
        await client.send(queue, {"id": 2**70})
        await until(lambda: got, "the job has run")
    assert got == [{"id": 2**70}]


async def test_every_item_of_a_generator_gets_a_task(world: World) -> None:
    flow = Flow("faithful", max_attempts=1, timeout=30)

    @flow.step
    def numbers() -> list[int]:
        return cast("list[int]", (number for number in range(3)))

    @flow.map(over=numbers)
    async def double(number: int) -> int:
        return 2 * number

    await world.create(flow)
    async with world.worker(flow):
        assert await world.ended(await world.start_run(flow, None)) == ("completed", {"double": [0, 2, 4]})
