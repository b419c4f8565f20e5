"""Three steps, each on the output of the one before: `python -m examples.chain`."""

from pydantic import BaseModel, Field

from examples.local import run_and_print
from flowworker import Flow


class Order(BaseModel):
    """What a run starts with."""

    number: str
    cents: list[int] = Field(min_length=1)


class Invoice(BaseModel):
    """What the run ends with."""

    number: str
    total: int


order_flow = Flow("order", max_attempts=3, base_delay=1, timeout=30)


@order_flow.step
async def net(order: Order) -> int:
    """A root step: its one parameter is the run's input."""
    return sum(order.cents)


@order_flow.step
async def gross(net: int) -> int:
    """Depends on step `net`, because a parameter has its name."""
    return net + net * 19 // 100


@order_flow.step
async def invoice(gross: int, order: Order) -> Invoice:
    """Takes a step's output and the run's input."""
    return Invoice(number=f"{order.number}-1", total=gross)


if __name__ == "__main__":
    run_and_print(order_flow, Order(number="A17", cents=[1000, 250]))
