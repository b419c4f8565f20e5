"""`run_step` and `run_job` treat values as a worker does."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from flowworker import Fail, Flow, Queue, Retry, TaskContext
from flowworker.definition.codec import InputError, OutputError
from flowworker.errors import UsageError
from flowworker.testing import run_job, run_job_async, run_step, run_step_async, task_context


class Site(BaseModel):
    urls: list[str]


@dataclass
class Size:
    bytes: int


flow = Flow("report")


@flow.step
async def urls(site: Site) -> list[str]:
    return site.urls


@flow.map(over=urls)
def fetch(url: str, ctx: TaskContext) -> Size:
    if ctx.attempt == 1:
        raise Retry("busy", after=5)
    if ctx.cancelled.is_set():
        raise Fail("cancelled")
    return Size(bytes=len(url))


@flow.step
async def total(fetch: list[Size], site: Site, *, urls: list[str] | None = None) -> str:
    return f"{sum(size.bytes for size in fetch)} bytes of {len(site.urls)} pages, {urls}"


@flow.step
async def ratio(total: str) -> float:
    return float(total)


mail = Queue("mail")


@mail.job
async def send(message: Site, ctx: TaskContext) -> str:
    return f"{len(message.urls)} links, attempt {ctx.attempt}"


def test_gives_what_the_handler_returned() -> None:
    assert run_step(urls, Site(urls=["a"])) == ["a"]


def test_inputs_go_through_json_and_the_handlers_types() -> None:
    assert run_step(urls, {"urls": ["a", "b"]}) == ["a", "b"]


def test_inputs_may_be_given_by_name() -> None:
    assert run_step(total, fetch=[Size(3), {"bytes": 4}], site=Site(urls=["a"])) == "7 bytes of 1 pages, None"
    assert run_step(total, [], Site(urls=[]), urls=["a"]) == "0 bytes of 0 pages, ['a']"


def test_plain_functions_run_too_and_get_the_context_of_the_test() -> None:
    assert run_step(fetch, "abc", context=task_context(attempt=2)) == Size(bytes=3)


def test_a_handler_sees_a_cancelled_context() -> None:
    with pytest.raises(Fail, match="cancelled"):
        run_step(fetch, "abc", context=task_context(attempt=2, cancelled=True))


def test_what_the_handler_raises_comes_out_as_it_is() -> None:
    with pytest.raises(Retry) as caught:
        run_step(fetch, "abc")
    assert caught.value.after == 5


def test_an_input_that_does_not_fit_names_the_field() -> None:
    with pytest.raises(InputError, match="urls"):
        run_step(urls, {"urls": "no list"})


def test_an_output_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(OutputError, match="nan"):
        run_step(ratio, "nan")


@pytest.mark.parametrize(
    ("values", "inputs", "complaint"),
    [
        ((), {}, "gives no 'site'"),
        ((Site(urls=[]), 1), {}, "takes 1 inputs"),
        ((Site(urls=[]),), {"site": 1}, "given twice"),
        ((Site(urls=[]),), {"page": 1}, "takes no page"),
    ],
)
def test_wrong_arguments_of_the_test_are_usage_errors(
    values: tuple[object, ...], inputs: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        run_step(urls, *values, **inputs)


def test_runs_a_job() -> None:
    assert run_job(send, Site(urls=["a"]), context=task_context(attempt=3)) == "1 links, attempt 3"


async def test_a_coroutine_test_awaits_the_twin() -> None:
    assert await run_step_async(urls, Site(urls=["a"])) == ["a"]
    assert await run_job_async(send, {"urls": []}) == "0 links, attempt 1"


async def test_the_blocking_form_says_so_inside_an_event_loop() -> None:
    with pytest.raises(UsageError, match="await run_step_async"):
        run_step(urls, Site(urls=[]))


async def test_the_context_gives_the_flows_input() -> None:
    context = task_context(flow_input={"urls": []}, headers={"trace": "1"})
    assert await context.flow_input() == {"urls": []}
    assert context.message.headers == {"trace": "1"}
    assert context.idempotency_key == f"{context.run_id}:step:0"
