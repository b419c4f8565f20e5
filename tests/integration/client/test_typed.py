import pytest
from pydantic import BaseModel

from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.definition.codec import InputError
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

shop = Flow("shop")
mail = Queue("mail")


class Order(BaseModel):
    items: list[str]
    express: bool = False


@shop.step
async def items(order: Order) -> list[str]:
    return order.items


@mail.job
async def send(order: Order) -> None: ...


@pytest.fixture(autouse=True)
async def compiled(owner: Connection) -> None:
    await owner.execute("""
        SELECT pgflow.create_flow('shop'); SELECT pgflow.add_step('shop', 'items'); SELECT pgmq.create('mail');
    """)


async def test_a_flow_takes_what_its_steps_take(client: Client) -> None:
    run = await client.start(shop, Order(items=["a"]))
    assert run.input == {"items": ["a"], "express": False}
    assert (await client.start(shop, {"items": []})).input == {"items": []}
    assert [found.run_id for found in await client.runs(flow=shop, limit=1)] != []


async def test_a_flow_refuses_other_input_before_anything_starts(client: Client) -> None:
    with pytest.raises(InputError, match="items"):
        await client.start(shop, {"items": 7})
    assert await client.runs() == []


async def test_a_queue_takes_what_its_handler_takes(client: Client) -> None:
    job = await client.job(mail, await client.send(mail, Order(items=["a"])))
    assert job.payload == {"items": ["a"], "express": False}
    with pytest.raises(InputError, match="items"):
        await client.send(mail, {"items": 7})
    assert len(await client.jobs(mail)) == 1


async def test_flows_lists_what_the_database_has(client: Client) -> None:
    await client.start(shop, Order(items=[]))
    (found,) = await client.flows()
    assert (found.flow_slug, found.steps, found.active_runs, found.workers) == ("shop", 1, 1, 0)
