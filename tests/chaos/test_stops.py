"""Signals: a graceful stop loses nothing, costs no attempt and keeps no caller waiting."""

import signal
import time

from testkit.support.history import Fault
from testkit.support.processes import WorkerProcess
from testkit.support.proxy import Weather
from testkit.support.together import together
from testkit.support.waiting import until
from tests.chaos.arena import Arena
from tests.chaos.ground import SECOND, Ground
from tests.chaos.load import put_load, repeats
from tests.chaos.workloads import Plan, fan, jobs, single

GONE_WITHIN = 6.0
"""Seconds; five are promised, and the test looks from outside."""


@together
async def test_sigterm_finishes_what_runs_and_claims_nothing_more(arena: Arena) -> None:
    await _finishes_its_work(arena, signal.SIGTERM)


@together
async def test_sigint_does_the_same(arena: Arena) -> None:
    await _finishes_its_work(arena, signal.SIGINT)


@together
async def test_a_second_sigterm_gives_the_work_back_at_once_without_an_attempt(arena: Arena) -> None:
    await _gives_back(arena, signal.SIGTERM, signal.SIGTERM)


@together
async def test_a_second_sigint_gives_the_work_back_at_once_without_an_attempt(arena: Arena) -> None:
    await _gives_back(arena, signal.SIGINT, signal.SIGINT)


@together
async def test_a_second_sigterm_ends_the_process_in_five_seconds_where_the_database_swallows_every_word(
    arena: Arena,
) -> None:
    async with arena.ground(single, jobs) as ground:
        leaving = ground.worker("leaving", "single", "jobs", through_proxy=True)
        await leaving.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(2)
        ground.proxy.weather = Weather.SWALLOWED
        leaving.send_signal(signal.SIGTERM)
        await until(lambda: "worker draining" in leaving.log(), "the worker drains")
        leaving.send_signal(signal.SIGTERM)
        began, hurried = time.monotonic_ns(), time.monotonic()
        assert await leaving.ended() == 0
        assert time.monotonic() - hurried < GONE_WITHIN
        ground.proxy.weather = Weather.CLEAR
        await ground.worker("next", "single", "jobs").start()
        ground.open_gate("open")
        workers = frozenset({"leaving"})
        ground.excuse(Fault(name="cut", began=began, ended=time.monotonic_ns(), workers=workers, lasts=True))
        await ground.conclude()


@together
async def test_a_stop_past_its_drain_timeout_gives_the_work_back_at_once_without_an_attempt(arena: Arena) -> None:
    await _gives_back(arena, signal.SIGTERM, drain_timeout="0.5")


@together
async def test_a_rolling_restart_under_load_repeats_and_loses_nothing(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        fleet = [ground.worker(f"worker {number}", "fan", "jobs") for number in range(2)]
        await ground.start_workers(*fleet)
        for generation in range(2, 6):
            await put_load(ground, 4)
            fleet.append(ground.worker(f"worker {generation}", "fan", "jobs"))
            await fleet[-1].start()
            leaving = fleet.pop(0)
            leaving.send_signal(signal.SIGTERM)
            assert await leaving.ended() == 0
        await ground.conclude()
        assert repeats(ground) == 0


async def _finishes_its_work(arena: Arena, number: signal.Signals) -> None:
    async with arena.ground(single, jobs) as ground:
        leaving = await _busy_worker(ground)
        leaving.send_signal(number)
        await until(lambda: "worker draining" in leaving.log(), "the worker drains")
        late = await ground.start_run(single, Plan())
        ground.open_gate("open")
        assert await leaving.ended() == 0
        assert (await ground.task(late, "only"))["status"] == "queued"
        assert [execution.ended is not None for execution in ground.executions()] == [True, True]
        assert [report["state"] for report in await ground.reports()] == ["stopped"] * 2
        await ground.worker("heir", "single", "jobs").start()
        await ground.conclude()
        assert len(ground.executions()) == 3


async def _gives_back(arena: Arena, *numbers: signal.Signals, drain_timeout: str = "") -> None:
    async with arena.ground(single, jobs) as ground:
        leaving = await _busy_worker(ground, drain_timeout=drain_timeout)
        heir = ground.worker("heir", "single", "jobs")
        await heir.start()
        began = time.monotonic_ns()
        for number in numbers:
            leaving.send_signal(number)
            await until(lambda: "worker draining" in leaving.log(), "the worker drains")
        assert await leaving.ended(10) == 0
        ended = time.monotonic_ns()
        ground.fault("stop", leaving, began=began, ended=ended, rerun_within=10)
        found = await ground.began(2, worker="heir", patience=5)
        assert [execution.attempt for execution in found] == [1, 1]
        assert ended - began < 5 * SECOND
        ground.open_gate("open")
        await ground.conclude()
        assert await ground.owner.fetchval("SELECT headers -> 'flowworker' ->> 'releases' FROM pgmq.a_jobs") == "1"


async def _busy_worker(ground: Ground, drain_timeout: str = "") -> WorkerProcess:
    """A worker with a task and a job that wait at the gate."""
    worker = ground.worker("leaving", "single", "jobs", drain_timeout=drain_timeout)
    await worker.start()
    await ground.start_run(single, Plan(gate="open"))
    await ground.send(jobs, Plan(gate="open"))
    await ground.began(2, worker="leaving")
    return worker
