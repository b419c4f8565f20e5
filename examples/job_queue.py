"""Jobs on a plain pgmq queue, chosen by their field `type`: `python -m examples.job_queue`."""

from typing import Literal

from pydantic import BaseModel

from examples.local import send_and_print
from flowworker import Queue, TaskContext


class Welcome(BaseModel):
    """Sent to new users."""

    type: Literal["welcome"] = "welcome"
    address: str


class Reminder(BaseModel):
    """Sent to users who have not paid."""

    type: Literal["reminder"] = "reminder"
    address: str
    cents: int


mail = Queue("mail", max_attempts=5, base_delay=1, timeout=20)


@mail.job(type="welcome")
async def welcome(message: Welcome) -> str:
    """What a handler returns is kept with the archived job."""
    return f"Welcome, {message.address}"


@mail.job(type="reminder")
async def remind(message: Reminder, ctx: TaskContext) -> str:
    """An exception is kept too, with its stack trace, and the job runs again after the backoff."""
    if message.cents <= 0:
        raise ValueError(f"nothing to pay (attempt {ctx.attempt} of {ctx.max_attempts})")
    return f"{message.address}, please pay {message.cents / 100:.2f}"


if __name__ == "__main__":
    send_and_print(mail, [Welcome(address="ada@example.org"), Reminder(address="bob@example.org", cents=1250)])
