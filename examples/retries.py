"""Backoff, a delay of the handler's own choice, and giving up at once: `python -m examples.retries`."""

from pydantic import BaseModel

from examples.local import run_and_print
from flowworker import Fail, Flow, Retry, TaskContext


class Payment(BaseModel):
    """What a run starts with."""

    account: str
    cents: int


payment_flow = Flow("payment", max_attempts=3, base_delay=1, timeout=30)


@payment_flow.step
async def account(payment: Payment) -> str:
    """No attempt will ever find an unknown account: `Fail` ends the run now."""
    if not payment.account.startswith("ACC"):
        raise Fail(f"no account {payment.account!r}")
    return payment.account


@payment_flow.step
async def charge(account: str, payment: Payment, ctx: TaskContext) -> str:
    """The provider says when to come back: `Retry` waits that long, here one second."""
    if ctx.attempt == 1:
        raise Retry("the provider is busy", after=1)
    return f"{account}: {payment.cents} charged, once, under key {ctx.idempotency_key}"


@payment_flow.step
async def receipt(charge: str, ctx: TaskContext) -> str:
    """Any other exception waits `base_delay * 2 ** attempt` seconds: 2, then 4, then 8."""
    if ctx.attempt == 1:
        raise ConnectionError("the mail server hung up")
    return charge


if __name__ == "__main__":
    run_and_print(payment_flow, Payment(account="ACC-1", cents=1999))
