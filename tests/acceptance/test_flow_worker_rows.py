"""The rows of the Elixir flow worker: how tasks are found, how many run, and how time bounds them."""

import asyncio

from testkit.support.waiting import until
from tests.acceptance.support import PATIENCE, SLOW, Gate, Stage

from flowworker import EventStream, Flow, Queue, Worker
from flowworker.database.records import RunStatus
from flowworker.telemetry.events import Event, PollStarted, PollStopped

CALLS = "SELECT funcname, sum(calls)::integer AS calls FROM pg_stat_user_functions GROUP BY funcname"
"""Which functions ran in this database, once `track_functions` is on."""


async def test_claims_in_two_phases_without_blocking_in_the_server(stage: Stage) -> None:
    gate = Gate()
    flow = Flow("two_phases", max_attempts=1, timeout=60)

    @flow.step
    async def only(_: int) -> None:
        await gate.pass_through()

    await stage.create(flow)
    await stage.as_superuser(f"ALTER DATABASE {stage.database.name} SET track_functions = 'all'")
    held, free, ghost = [await stage.start(flow, number) for number in range(3)]
    await stage.owner.execute("UPDATE pgflow.step_tasks SET status = 'failed' WHERE run_id = $1", ghost)
    rival = await stage.database.connect()
    held_message = (await stage.task(held, "only"))["message_id"]
    async with rival.transaction():
        await rival.execute("SELECT FROM pgmq.q_two_phases WHERE msg_id = $1 FOR UPDATE", held_message)
        async with stage.worker(flow) as worker:
            await gate.reached()  # the claim passed by the message that another session holds
            task = await stage.task(free, "only")
            message = await stage.owner.fetchrow(
                "SELECT read_ct, vt > clock_timestamp() AS hidden FROM pgmq.q_two_phases WHERE msg_id = $1",
                task["message_id"],
            )
            assert message == (1, True)
            assert (task["status"], task["attempts_count"]) == ("started", 1)
            assert task["last_worker_id"] == worker.worker_id
            assert (await stage.task(held, "only"))["status"] == "queued"
            assert [one.run_id for one in worker.state().active_tasks] == [free]  # a message alone starts nothing
            polls = len(stage.heard.of(PollStopped))
            await until(lambda: len(stage.heard.of(PollStopped)) > polls + 2, "polls beside a locked message")
            gate.release.set()
            assert (await stage.ended(free)).status is RunStatus.COMPLETED
    await rival.close()

    async def calls() -> dict[str, int] | None:
        found = {row["funcname"]: row["calls"] for row in await stage.owner.fetch(CALLS)}
        return found if {"read", "start_tasks"} <= found.keys() else None

    called = await until(calls, "the server's count of function calls")
    assert "read_with_poll" not in called
    assert called["start_tasks"] <= called["read"]  # only after a read that found something


async def test_one_worker_per_flow_or_queue_runs_ten_tasks_at_once_and_claims_ten_at_a_time(stage: Stage) -> None:
    running = most = 0
    release = asyncio.Event()
    flow = Flow("wide", max_attempts=1, timeout=60)

    @flow.map
    async def each(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        return number

    queue = Queue("wide_jobs")

    @queue.job
    async def work(number: int) -> int:
        return number

    await stage.create(flow, queue)
    run = await stage.start(flow, list(range(35)))
    async with stage.pool([flow, queue]) as pool:
        flow_worker, queue_worker = pool.workers
        assert [state.slug for state in pool.states()] == ["wide", "wide_jobs"]
        assert (flow_worker.state().max_concurrency, flow_worker.state().batch_size) == (10, 10)
        await until(lambda: running == 10, "ten handlers at once")
        assert flow_worker.state().free_slots == 0
        assert (await stage.do(queue, 5)).result == 5  # a full neighbour takes no slot of the queue's worker
        assert queue_worker.state().free_slots == 10
        assert await stage.owner.fetchval("SELECT count(*) FROM pgmq.q_wide WHERE read_ct > 0") == 10
        release.set()
        assert (await stage.ended(run)).output == {"each": list(range(35))}
    assert most == 10
    assert max(poll.task_count for poll in stage.heard.of(PollStopped)) == 10
    stage.heard.events.clear()
    async with stage.worker(flow, max_concurrency=3, batch_size=2):
        assert (await stage.finish(flow, list(range(7)))).status is RunStatus.COMPLETED
    assert max(poll.task_count for poll in stage.heard.of(PollStopped)) <= 2


async def test_polling_backs_off_from_one_to_five_seconds_with_jitter_and_is_fast_when_busy(stage: Stage) -> None:
    flow = Flow("paced", max_attempts=1, timeout=60)

    @flow.map
    async def numbers(number: int) -> int:
        return number

    @flow.step
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    await stage.create(flow)
    async with stage.worker(flow, min_poll_interval=1.0, max_poll_interval=5.0) as worker:
        signal = worker.state().signal
        assert (signal.strategy, signal.min_interval, signal.max_interval) == ("polling", 1.0, 5.0)

    idle = stage.worker(flow, min_poll_interval=0.1, max_poll_interval=0.5, events=EventStream())
    pauses = pauses_of(idle)
    async with idle:
        await until(lambda: len(pauses) > 15, "idle polls")
    assert all(0.1 <= pause <= 0.5 for pause in pauses)
    assert len({round(pause, 4) for pause in pauses}) > 5
    assert max(pauses) > 0.2

    # Busy: ten claims and a step after them, in less than the shortest pause there could be.
    backlog = await stage.start(flow, list(range(100)))
    async with stage.worker(flow, **SLOW):
        assert (await stage.ended(backlog)).output == {"total": 4950}

    again = stage.worker(flow, min_poll_interval=0.05, max_poll_interval=5.0, events=EventStream())
    pauses = pauses_of(again)
    async with again:
        await until(lambda: max(pauses, default=0.0) > 0.5, "a pause that has grown")
        before = len(pauses)
        assert (await stage.finish(flow, [1])).status is RunStatus.COMPLETED
        await until(lambda: any(pause <= 0.15 for pause in pauses[before:]), "a worker that work makes quick again")


def pauses_of(worker: Worker) -> list[float]:
    """Will hold the pause before each of the worker's polls; the worker has a stream of its own."""
    pauses: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, PollStarted):
            pauses.append(worker.state().signal.current_interval)

    worker.events.subscribe(note)
    return pauses


async def test_notify_wakes_at_once_drains_a_backlog_and_starts_due_work_when_due(stage: Stage) -> None:
    begun: list[float] = []
    now = asyncio.get_running_loop().time
    flow = Flow("told", max_attempts=2, base_delay=1, timeout=30)

    @flow.step
    async def number(value: int) -> int:
        return value

    late = Flow("late", max_attempts=2, base_delay=1, timeout=30)

    @late.step(start_delay=2)
    async def fussy(_: int) -> str:
        begun.append(now())
        if len(begun) == 1:
            raise ValueError("not yet")
        return "at last"

    await stage.create(flow, late)
    for slug in ("told", "late"):
        await stage.announce(slug)
    narrow = {**SLOW, "batch_size": 3, "max_concurrency": 3}
    async with stage.worker(flow, signal_strategy="notify", **narrow) as worker:
        await stage.listening(worker)
        signal = worker.state().signal
        assert (signal.strategy, signal.degraded, signal.fallback_interval) == ("notify", None, 50.0)
        assert (await stage.finish(flow, 7)).output == {"number": 7}
        for run in [await stage.start(flow, value) for value in range(40)]:
            assert (await stage.ended(run)).status is RunStatus.COMPLETED

    async with stage.worker(late, signal_strategy="notify", **SLOW) as worker:
        await stage.listening(worker)
        sent = now()
        assert (await stage.finish(late, 0)).output == {"fussy": "at last"}
    assert 1.5 < begun[0] - sent < PATIENCE
    assert begun[1] - begun[0] > 1.5  # base_delay 1, doubled

    options = {**SLOW, "notify_fallback_interval": 1.0}
    async with stage.worker(flow, signal_strategy="notify", **options) as worker:
        await stage.listening(worker)
        await stage.as_superuser("ALTER TABLE pgmq.q_told DISABLE TRIGGER USER")
        assert (await stage.finish(flow, 1)).status is RunStatus.COMPLETED  # unannounced: the fallback's poll found it
    async with stage.worker(flow, signal_strategy="notify", notify_fallback_interval=30.0) as worker:
        assert worker.state().signal.fallback_interval == 30.0


async def test_visibility_follows_the_effective_timeout_and_a_timeout_kills_the_task(stage: Stage) -> None:
    killed: list[str] = []
    gate = Gate()
    flow = Flow("timed", max_attempts=1, timeout=40)

    @flow.step
    async def inherits(_: int) -> None:
        await gate.pass_through()

    @flow.step(timeout=8)
    async def own(_: int) -> None:
        await gate.pass_through()

    hopeless = Flow("hopeless", max_attempts=1, timeout=40)

    @hopeless.step(timeout=1)
    async def hang(_: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            killed.append("cancelled")
            raise

    await stage.create(flow, hopeless)
    async with stage.worker(flow) as worker:
        run = await stage.start(flow, 1)
        await until(lambda: len(worker.state().active_tasks) == 2, "both tasks at work")
        rows = await stage.owner.fetch(
            """SELECT task.step_slug, extract(epoch FROM message.vt - task.started_at)::float8 AS hidden_for
               FROM pgflow.step_tasks AS task JOIN pgmq.q_timed AS message ON message.msg_id = task.message_id
               WHERE task.run_id = $1""",
            run,
        )
        extra = worker.state().visibility_timeout
        hidden = {row["step_slug"]: row["hidden_for"] for row in rows}
        assert abs(hidden["inherits"] - 40 - extra) < 1
        assert abs(hidden["own"] - 8 - extra) < 1
        left = {task.step_slug: task.time_left or 0 for task in worker.state().active_tasks}
        assert left["own"] <= 8 < left["inherits"] <= 40
        gate.release.set()
        assert (await stage.ended(run)).status is RunStatus.COMPLETED
    async with stage.worker(hopeless) as worker:
        failed = await stage.finish(hopeless, 1)
        assert failed.status is RunStatus.FAILED
        assert (failed.error or "").startswith("Task timed out after 1s")
        assert killed == ["cancelled"]
        await until(lambda: worker.state().free_slots == 10, "the slot of the killed task")
