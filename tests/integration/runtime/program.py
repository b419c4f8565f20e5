"""A worker program of its own, for tests that send it signals: serves the queue `signals` until it is stopped."""

import asyncio
import sys

from flowworker.definition.queue import Queue
from flowworker.runtime.signals import stop_on_signals
from flowworker.runtime.worker import Worker

signals = Queue("signals", max_attempts=1, timeout=600)


@signals.job
async def work(seconds: float) -> str:
    """Say that it has begun, and take its time."""
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    return "finished"


async def main(dsn: str) -> int:
    """Run until stopped."""
    worker = Worker(signals, dsn=dsn, min_poll_interval=0.05)
    with stop_on_signals(worker):
        end = await worker.run()
    print(end.reason, flush=True)
    return end.code


def run() -> int:
    """Run on the loop that was asked for."""
    if "uvloop" in sys.argv:
        import uvloop

        return uvloop.run(main(sys.argv[1]))
    return asyncio.run(main(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(run())
