"""When memory is given back to the system: some time after large payloads, and not after small ones."""

import asyncio
import sys
from dataclasses import replace

import pytest
from tests.unit.telemetry.samples import STARTED, STOPPED

from flowworker.runtime.malloc import DELAY, WORTH_TRIMMING, IdleTrimmer, MemoryTrimmer, system_trim

pytestmark = pytest.mark.looptime

LARGE = replace(STOPPED, task=replace(STOPPED.task, input=bytes(WORTH_TRIMMING)))


class Trims:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.count = 0
        self.trimmer = MemoryTrimmer(self._trim)

    def _trim(self) -> None:
        self.count += 1


async def test_a_large_payload_is_followed_by_one_trim() -> None:
    trims = Trims()
    for _ in range(10):
        trims.trimmer(LARGE)
    await asyncio.sleep(DELAY - 1)
    assert trims.count == 0
    await asyncio.sleep(10 * DELAY)
    assert trims.count == 1


async def test_payloads_during_the_wait_for_a_trim_do_not_postpone_it() -> None:
    trims = Trims()
    for _ in range(100):
        trims.trimmer(LARGE)
        await asyncio.sleep(DELAY / 10)
    assert 8 <= trims.count <= 10


async def test_small_payloads_and_tasks_that_only_start_are_not_worth_a_trim() -> None:
    trims = Trims()
    trims.trimmer(replace(STARTED, task=LARGE.task))
    for _ in range(100):
        trims.trimmer(STOPPED)
    await asyncio.sleep(10 * DELAY)
    assert trims.count == 0


async def test_outputs_count_as_well() -> None:
    trims = Trims()
    trims.trimmer(replace(STOPPED, output=bytes(WORTH_TRIMMING)))
    await asyncio.sleep(2 * DELAY)
    assert trims.count == 1


async def test_without_glibc_nothing_is_done() -> None:
    MemoryTrimmer(None)(LARGE)
    idle = IdleTrimmer(None)
    idle.count(WORTH_TRIMMING)
    assert idle.due_in is None


async def test_a_process_that_waits_gives_back_some_time_after_a_large_payload_and_then_no_more() -> None:
    trims, at = list[float](), 0.0
    idle = IdleTrimmer(lambda: trims.append(at), clock=lambda: at)
    idle.count(WORTH_TRIMMING - 1)
    assert idle.due_in is None
    idle.count(1)
    at = 1.0
    idle.count(WORTH_TRIMMING)
    assert idle.due_in == DELAY - 1.0
    at = 2 * DELAY
    assert idle.due_in == 0.0
    idle.give_back()
    assert (trims, idle.due_in) == ([2 * DELAY], None)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
async def test_with_glibc_the_trim_can_be_called() -> None:
    trim = system_trim()
    if trim is not None:  # musl has none
        trim()
