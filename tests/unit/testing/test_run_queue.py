"""`run_queue` runs jobs as pgmq and a worker would, in no time."""

from typing import Literal

import pytest
from pydantic import BaseModel

from flowworker import Queue, Retry, TaskContext
from flowworker.definition.codec import InputError
from flowworker.testing import run_queue, run_queue_async


class Welcome(BaseModel):
    type: Literal["welcome"] = "welcome"
    address: str


class Reminder(BaseModel):
    type: Literal["reminder"] = "reminder"
    cents: int


mail = Queue("mail", max_attempts=3, base_delay=10)


@mail.job(type="welcome")
async def welcome(message: Welcome, ctx: TaskContext) -> str:
    if ctx.attempt == 1:
        raise Retry("busy", after=7)
    return f"welcome, {message.address}"


@mail.job(type="reminder")
def remind(message: Reminder) -> None:
    raise ValueError(f"{message.cents} are too few")


def test_jobs_come_back_in_the_order_they_were_given() -> None:
    failed, done = run_queue(mail, [Reminder(cents=1), Welcome(address="ada")])
    assert (done.state, done.result, done.error) == ("done", "welcome, ada", None)
    assert [attempt.started_at for attempt in done.attempts] == [0, 7]
    assert (failed.state, failed.result, failed.error) == ("failed", None, "ValueError: 1 are too few")
    assert [attempt.started_at for attempt in failed.attempts] == [0, 20, 60]


def test_a_payload_that_no_handler_takes_is_refused() -> None:
    with pytest.raises(InputError, match="known types: 'welcome', 'reminder'"):
        run_queue(mail, [{"type": "postcard"}])


async def test_a_coroutine_test_awaits_the_twin() -> None:
    (done,) = await run_queue_async(mail, [Welcome(address="bob")])
    assert done.result == "welcome, bob"
