"""The signal that asks a handler to stop."""

import asyncio
import threading

from flowworker.runtime.cancellation import CancelSignal


async def test_a_cancel_signal_wakes_waiters_on_any_loop_and_keeps_its_first_reason() -> None:
    signal = CancelSignal()
    heard: list[str] = []
    other = threading.Thread(target=lambda: heard.append(asyncio.run(signal.wait())))
    other.start()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not signal.is_set()
    signal.set("timeout")
    signal.set("later")
    assert await waiting == "timeout"
    assert await signal.wait() == "timeout"
    await asyncio.to_thread(other.join, 5)
    assert heard == ["timeout"]
