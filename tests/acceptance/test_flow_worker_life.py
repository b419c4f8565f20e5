"""The rows of the Elixir flow worker: its life, what it shows, how it is embedded, what it reports."""

import asyncio
import dataclasses
import logging
from uuid import UUID

import pytest
from testkit.support.waiting import hold_for, until
from tests.acceptance.support import Gate, Stage

from flowworker import Flow, Worker
from flowworker.database.records import RunStatus, SourceKind
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.pool import Restart
from flowworker.telemetry.events import (
    Event,
    PollStarted,
    PollStopped,
    RunCompleted,
    RunFailed,
    RunStarted,
    TaskFailed,
    TaskStarted,
    TaskStopped,
    WorkerStarted,
    WorkerStopped,
)

BREAK = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'a broken migration'; END$$;
    CREATE TRIGGER broken BEFORE UPDATE ON pgmq.q_embedded EXECUTE FUNCTION public.refuse();
"""
"""Makes every claim of the queue fail with an error that no worker expects."""


def cancel_a_loop(worker: Worker) -> None:
    """Let a background loop of a worker end in a way that no code of ours does."""
    task = worker._inner._session.poller._task  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    assert task is not None
    task.cancel()


async def test_a_worker_id_is_optional_and_the_worker_registers_before_work_and_marks_itself_stopped(
    stage: Stage,
) -> None:
    seen: list[set[UUID]] = []
    flow = Flow("registered", max_attempts=1, timeout=30)

    @flow.step
    async def look(_: int) -> None:
        seen.append({one.worker_id for one in await stage.client.workers(slug="registered")})

    await stage.create(flow)
    chosen = UUID("00000000-0000-4000-8000-000000000007")
    run = await stage.start(flow, 1)  # waits before there is any worker
    async with stage.worker(flow, worker_id=chosen) as worker:
        assert worker.worker_id == chosen
        await stage.ended(run)
    assert seen == [{chosen}]
    kinds = [type(event) for event in stage.heard.events]
    assert kinds.index(WorkerStarted) < kinds.index(PollStarted) < kinds.index(TaskStarted)
    assert (await stage.report(chosen)).state == "stopped"
    async with stage.worker(flow) as one, stage.worker(flow) as other:
        made = {one.worker_id, other.worker_id}
        assert len(made) == 2
        assert {report.worker_id for report in await stage.client.workers()} == made
    assert await stage.client.workers() == []


async def test_a_graceful_stop_takes_no_new_task_waits_for_active_ones_and_state_shows_every_field(
    stage: Stage,
) -> None:
    gate = Gate()
    flow = Flow("graceful", max_attempts=3, timeout=60)

    @flow.step
    async def slow(_: int) -> str:
        await gate.pass_through()
        return "finished"

    await stage.create(flow)
    worker = stage.worker(flow, max_concurrency=4, batch_size=2, notify_fallback_interval=12.0)
    await worker.start()
    run = await stage.start(flow, 1)
    await gate.reached()
    state = worker.state()
    shown = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    assert shown.pop("active_tasks") == state.active_tasks
    assert shown.pop("signal") == state.signal
    assert shown.pop("counters") is state.counters
    assert 0 <= shown.pop("beat_age") < 30
    assert shown.pop("visibility_timeout") >= 0
    assert 0 <= shown.pop("unclaimed_for") < 30
    assert shown == {
        "workload": flow, "kind": SourceKind.FLOW, "slug": "graceful", "queue_name": "graceful",
        "worker_id": worker.worker_id, "worker_name": "graceful_Worker_1",
        "lifecycle": Lifecycle.RUNNING, "reason": "registered and ready", "drained": False,
        "max_concurrency": 4, "batch_size": 2, "in_flight": 1, "free_slots": 3, "unwritten_results": 0,
        "unwritten_for": None, "wanting_for": None, "doubts": 0, "option_changes": (), "loop_blocked_for": 0.0,
    }  # fmt: skip
    signal = state.signal
    assert (signal.strategy, signal.min_interval, signal.max_interval) == ("polling", 0.05, 0.1)
    assert 0.05 <= signal.current_interval <= 0.1
    await until(lambda: worker.state().signal.next_poll_in is not None, "a time of the next poll")
    (task,) = state.active_tasks
    message = (await stage.task(run, "slow"))["message_id"]
    assert (task.run_id, task.step_slug, task.task_index, task.msg_id) == (run, "slow", 0, message)
    assert task.attempt == 1
    assert 0 < (task.time_left or 0) <= 60
    assert isinstance(task.handle, asyncio.Task)
    assert (state.counters.completed, state.counters.failed) == (0, 0)

    stopping = asyncio.create_task(worker.stop())
    await until(lambda: worker.lifecycle is Lifecycle.DRAINING, "a worker that drains")
    polls = len(stage.heard.of(PollStarted))
    later = await stage.start(flow, 2)
    await hold_for(0.5)  # several pauses of this worker's polling
    assert not stopping.done()
    assert len(stage.heard.of(PollStarted)) == polls
    gate.release.set()
    await stopping
    assert (await stage.ended(run)).output == {"slow": "finished"}
    assert (await stage.task(later, "slow"))["status"] == "queued"
    assert worker.state().lifecycle is Lifecycle.STOPPED
    assert worker.state().counters.completed == 1


async def test_embeds_with_async_with_and_a_pool_restarts_a_crashed_worker_with_backoff(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("embedded", max_attempts=1, timeout=30)

    @flow.step
    async def double(number: int) -> int:
        return 2 * number

    await stage.create(flow)
    async with stage.worker(flow):
        assert (await stage.finish(flow, 4)).output == {"double": 8}

    stage.heard.events.clear()
    with caplog.at_level(logging.WARNING):
        async with stage.pool(flow, restart=Restart(base=1.0, cap=30.0)) as pool:
            first = pool.workers[0]
            await stage.owner.execute(BREAK)
            run = await stage.start(flow, 5)
            await until(lambda: "a broken migration" in caplog.text, "a claim that fails")
            assert pool.workers[0] is first  # an error that no worker expects is waited out
            cancel_a_loop(first)
            crashed = await stage.heard.first(WorkerStopped)
            assert crashed.worker.worker_id == first.worker_id
            assert "was cancelled from outside" in crashed.reason
            await stage.owner.execute("DROP TRIGGER broken ON pgmq.q_embedded")
            assert (await stage.ended(run, patience=40)).output == {"double": 10}
            assert pool.workers[0].worker_id != first.worker_id
            assert pool.workers[0].worker_name == first.worker_name
    assert "is started again" in caplog.text


async def test_events_report_workers_polls_tasks_and_runs_with_duration_worker_flow_run_step_and_index(
    stage: Stage,
) -> None:
    flow = Flow("watched", max_attempts=2, base_delay=0, timeout=30)

    @flow.step
    async def numbers(count: int) -> list[int]:
        if count < 0:
            raise ValueError("nothing below zero")
        return list(range(count))

    @flow.map(over=numbers)
    async def each(number: int) -> int:
        return number + 1

    async def awaited(event: Event) -> None:
        await asyncio.sleep(0)
        kept.append(event)

    def failing(_: Event) -> None:
        raise RuntimeError("a subscriber's own fault")

    kept: list[Event] = []
    await stage.create(flow)
    stage.heard.stream.subscribe(failing)
    stage.heard.stream.subscribe(awaited)
    async with stage.worker(flow, worker_name="mina") as worker:
        good = await stage.start(flow, 2)
        assert (await stage.ended(good)).output == {"each": [1, 2]}
        bad = await stage.start(flow, -1)
        assert (await stage.ended(bad)).status is RunStatus.FAILED
        failed = await stage.heard.first(RunFailed)
        info = stage.heard.of(WorkerStarted)[0].worker
        assert (info.worker_id, info.worker_name, info.slug) == (worker.worker_id, "mina", "watched")
    await stage.heard.stream.drain()
    heard = stage.heard

    assert [event.run_id for event in heard.of(RunStarted)] == [good, bad]
    assert {event.flow_slug for event in heard.of(RunStarted)} == {"watched"}
    started = [(one.task.run_id, one.task.step_slug, one.task.task_index) for one in heard.of(TaskStarted)]
    assert started[0] == (good, "numbers", 0)
    assert set(started[1:3]) == {(good, "each", 0), (good, "each", 1)}
    assert started[3:] == [(bad, "numbers", 0)] * 2
    outputs = {(one.task.step_slug, one.task.task_index): one.output for one in heard.of(TaskStopped)}
    assert outputs == {("numbers", 0): b"[0,1]", ("each", 0): b"1", ("each", 1): b"2"}
    exceptions = heard.of(TaskFailed)
    assert [(one.task.run_id, one.task.attempt) for one in exceptions] == [(bad, 1), (bad, 2)]
    assert all(one.failure.message == "ValueError: nothing below zero" for one in exceptions)
    assert all("in numbers" in (one.failure.stacktrace or "") for one in exceptions)
    (completed,) = heard.of(RunCompleted)
    assert (completed.flow_slug, completed.run_id, failed.flow_slug, failed.run_id) == ("watched", good, "watched", bad)
    assert "nothing below zero" in failed.error
    assert len(heard.of(PollStarted)) == len(heard.of(PollStopped)) > 0
    (stopped,) = heard.of(WorkerStopped)
    assert heard.events[-1] is stopped
    ended = [*heard.of(TaskStopped), *exceptions, completed, failed, stopped, *heard.of(PollStopped)]
    assert all(one.duration > 0 and one.worker == info for one in ended)
    assert len(kept) == len(heard.events)
