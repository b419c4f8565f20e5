"""`run_flow` runs a flow as pgflow and a worker would, in no time."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.testing.flows import process_flow

from flowworker import Fail, Flow, Retry, TaskContext
from flowworker.definition.codec import InputError
from flowworker.errors import InternalError, UsageError
from flowworker.testing import run_flow, run_flow_async


class Site(BaseModel):
    urls: list[str]


def report() -> Flow:
    flow = Flow("report", max_attempts=3, base_delay=2)

    @flow.step
    async def urls(site: Site) -> list[str]:
        return site.urls

    @flow.map(over=urls)
    def size(url: str) -> int:
        return len(url)

    @flow.step
    async def total(size: list[int], site: Site) -> dict[str, int]:
        return {"bytes": sum(size), "pages": len(site.urls)}

    return flow


def test_a_flow_runs_to_its_output() -> None:
    result = run_flow(report(), Site(urls=["a", "bbb"]))
    assert (result.status, result.error) == ("completed", None)
    assert result.output == {"total": {"bytes": 4, "pages": 2}}
    assert result.steps == {"urls": ["a", "bbb"], "size": [1, 3], "total": {"bytes": 4, "pages": 2}}


def test_a_map_over_nothing_completes_with_an_empty_list() -> None:
    result = run_flow(report(), {"urls": []})
    assert result.steps["size"] == []
    assert result.output == {"total": {"bytes": 0, "pages": 0}}


def test_an_input_that_the_flow_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match="urls"):
        run_flow(report(), {"urls": 3})


def test_every_attempt_is_there_with_its_virtual_start() -> None:
    flow = Flow("flaky", max_attempts=4, base_delay=60)

    @flow.step
    async def work(number: int, ctx: TaskContext) -> int:
        match ctx.attempt:
            case 1:
                raise ConnectionError("hung up")
            case 2:
                raise Retry("come back later", after=3600)
            case _:
                return number

    began = time.monotonic()
    result = run_flow(flow, 7)
    assert time.monotonic() - began < 10
    assert [attempt.started_at for attempt in result.attempts] == [0, 120, 3720]
    assert [attempt.verdict for attempt in result.attempts] == ["retrying", "retrying", "completed"]
    assert [attempt.retry_in for attempt in result.attempts] == [120, 3600, None]
    assert [attempt.error for attempt in result.attempts] == ["ConnectionError: hung up", "come back later", None]
    assert "hung up" in str(result.attempts[0].stacktrace)
    assert result.attempts_of(work)[2].output == 7
    assert result.elapsed == 3720


def test_the_last_attempt_fails_the_run() -> None:
    flow = Flow("hopeless", max_attempts=2, base_delay=5)

    @flow.step
    def work(number: int) -> int:
        raise ValueError(f"no {number}")

    @flow.step
    def after(work: int) -> int:
        return work

    result = run_flow(flow, 7)
    assert (result.status, result.output, result.error) == ("failed", None, "ValueError: no 7")
    assert [attempt.number for attempt in result.attempts_of("work")] == [1, 2]
    assert result.steps == {}
    assert result.attempts_of(after) == ()


def test_fail_ends_the_run_in_its_first_attempt() -> None:
    flow = Flow("refused", max_attempts=5)

    @flow.step
    async def work(number: int) -> int:
        raise Fail("never")

    result = run_flow(flow, 7)
    assert (result.status, result.error, len(result.attempts)) == ("failed", "never", 1)


def test_a_start_delay_passes_in_no_time() -> None:
    flow = Flow("later")

    @flow.step(start_delay=86_400)
    async def work(number: int) -> int:
        return number

    assert run_flow(flow, 7).attempts[0].started_at == 86_400


def test_a_timeout_can_be_made_short() -> None:
    flow = Flow("slow", max_attempts=1, timeout=3600)

    @flow.step
    async def work(number: int) -> None:
        await asyncio.Event().wait()

    assert run_flow(flow, 7, timeout=0.05).error == "Task timed out after 0.05s"


def test_the_tasks_of_a_map_run_side_by_side_up_to_the_limit() -> None:
    flow = Flow("wide")
    running: list[int] = []
    most = 0

    @flow.map
    async def work(number: int) -> int:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.remove(number)
        return number

    assert run_flow(flow, list(range(20)), max_concurrency=4).output == {"work": list(range(20))}
    assert most == 4


def test_handlers_of_a_run_that_has_failed_are_stopped() -> None:
    flow = Flow("siblings", max_attempts=1, timeout=3600)

    @flow.map
    async def work(number: int) -> None:
        if number == 0:
            raise ValueError("the first one fails")
        await asyncio.Event().wait()

    result = run_flow(flow, [1, 0, 2])
    assert (result.status, result.error) == ("failed", "ValueError: the first one fails")
    assert [attempt.verdict for attempt in result.attempts] == ["superseded", "failed", "superseded"]
    assert [attempt.error for attempt in result.attempts_of(work, 2)] == ["its run has ended"]


def test_handlers_run_in_child_processes_too() -> None:
    result = run_flow(process_flow, [2, 3])
    assert result.output == {"square": [4, 9]}, result.error


def test_an_output_that_cannot_be_stored_fails_the_attempt() -> None:
    flow = Flow("odd", max_attempts=1)

    @flow.step
    async def work(number: int) -> float:
        return float("nan")

    assert "nan" in str(run_flow(flow, 7).error)


def test_the_flows_input_can_be_asked_for() -> None:
    flow = Flow("asking")

    @flow.map
    async def work(number: int, ctx: TaskContext) -> int:
        return number * len(await ctx.flow_input())

    assert run_flow(flow, [1, 2, 3]).output == {"work": [3, 6, 9]}


def test_threads_that_never_end_are_reported_when_they_have_taken_every_slot(tmp_path: Path) -> None:
    flow = Flow("stuck", max_attempts=1)
    gate = tmp_path / "gate"

    @flow.map
    def work(number: int) -> None:
        while not gate.exists():
            time.sleep(0.01)

    try:
        with pytest.raises(InternalError, match="every slot"):
            run_flow(flow, [1, 2], timeout=0.05, max_concurrency=1)
    finally:
        gate.touch()


async def test_a_coroutine_test_awaits_the_twin() -> None:
    assert (await run_flow_async(report(), Site(urls=["a"]))).status == "completed"


async def test_the_blocking_form_says_so_inside_an_event_loop() -> None:
    with pytest.raises(UsageError, match="await run_flow_async"):
        run_flow(report(), Site(urls=[]))


def conditional(**settings: Any) -> Any:
    """A flow whose second step of three has these settings; the third takes its output, and a map runs over it."""
    flow: Any = Flow("orders", max_attempts=1)

    @flow.step
    async def check(order: dict[str, Any]) -> dict[str, Any]:
        return order

    @flow.step(**settings)
    async def items(check: dict[str, Any]) -> list[str]:
        if not check["items"]:
            raise ValueError("nothing ordered")
        return check["items"]

    @flow.map(over=items)
    async def pack(item: str) -> str:
        return item.upper()

    @flow.step
    async def bill(items: list[str] | None = None) -> int:
        return -1 if items is None else len(items)

    return flow


PRO = {"plan": "pro", "items": ["a", "b"]}


def test_a_step_whose_condition_is_met_runs() -> None:
    result = run_flow(conditional(when={"check": {"plan": "pro"}}, unless={"check": {"items": ["c"]}}), PRO)
    assert (result.output, result.skipped) == ({"pack": ["A", "B"], "bill": 2}, {})


@pytest.mark.parametrize("condition", [{"when": {"check": {"plan": "free"}}}, {"unless": {"check": {"items": ["b"]}}}])
def test_a_step_whose_condition_is_not_met_is_skipped_and_its_dependants_run_without_it(condition: Any) -> None:
    result = run_flow(conditional(**condition), PRO)
    assert result.output == {"pack": [], "bill": -1}
    assert result.skipped == {"items": "condition_unmet"}


def test_what_depends_on_a_step_that_cascades_is_skipped_too() -> None:
    result = run_flow(conditional(when={"check": {"plan": "free"}}, when_unmet="skip_cascade"), PRO)
    assert (result.status, result.output, result.steps) == ("completed", None, {"check": PRO})
    assert result.skipped == {
        "items": "condition_unmet", "pack": "dependency_skipped", "bill": "dependency_skipped"
    }  # fmt: skip


def test_a_condition_may_fail_the_run() -> None:
    result = run_flow(conditional(when={"check": {"plan": "free"}}, when_unmet="fail"), PRO)
    assert (result.status, result.error, result.skipped) == ("failed", "Condition not met", {})


def test_a_step_that_fails_for_good_may_be_skipped() -> None:
    result = run_flow(conditional(when_exhausted="skip"), {"items": []})
    assert (result.status, result.output) == ("completed", {"pack": [], "bill": -1})
    assert result.skipped == {"items": "handler_failed"}
    assert [attempt.verdict for attempt in result.attempts_of("items")] == ["failed"]


def test_what_the_tasks_of_a_skipped_map_still_do_is_superseded() -> None:
    flow = Flow("orders", max_attempts=1)

    @flow.map(when_exhausted="skip")
    async def pack(item: int) -> int:
        if item == 2:
            raise ValueError("broken")
        return item

    @flow.step
    async def after(pack: list[int] | None) -> bool:
        return pack is None

    result = run_flow(flow, [1, 2, 2, 3], max_concurrency=3)
    assert (result.output, result.skipped) == ({"after": True}, {"pack": "handler_failed"})
    assert [attempt.verdict for attempt in result.attempts_of(pack, 2)] == ["superseded"]
    assert result.attempts_of(pack, 3) == ()


def test_a_step_made_ready_by_a_map_over_nothing_alone_starts_whatever_its_condition_says() -> None:
    flow = Flow("orders")

    @flow.map
    async def pack(item: int) -> int:
        return item

    @flow.step(when={"pack": [1]})
    async def after(pack: list[int]) -> int:
        return len(pack)

    assert run_flow(flow, []).output == {"after": 0}
    assert run_flow(flow, [2]).skipped == {"after": "condition_unmet"}
    assert run_flow(flow, [1]).output == {"after": 1}
