"""A task that runs for long and can be interrupted at any time: `python -m examples.long_task`.

The worker keeps the lease of a running task alive by itself, however long its timeout is. When it is stopped it first
waits (`drain_timeout`), then sets `ctx.cancelled`, and what is still unfinished goes back at once without costing an
attempt.
"""

import time

from pydantic import BaseModel

from examples.local import run_and_print
from flowworker import Flow, TaskContext


class Film(BaseModel):
    """What a run starts with."""

    frames: int
    seconds_per_frame: float = 0.02


film_flow = Flow("film", max_attempts=3, base_delay=1, timeout=3600)


class InterruptedRenderError(Exception):
    """The worker asked this handler to stop."""


@film_flow.step(timeout=7200)
def render(film: Film, ctx: TaskContext) -> int:
    """A plain function runs in a thread, which cannot be stopped: it has to look at `ctx.cancelled` itself."""
    for frame in range(film.frames):
        if ctx.cancelled.is_set():
            raise InterruptedRenderError(f"stopped after {frame} frames")
        time.sleep(film.seconds_per_frame)
    return film.frames


@film_flow.step
async def publish(render: int) -> str:
    """A coroutine needs nothing of the kind: it is cancelled at its next await."""
    return f"film of {render} frames"


if __name__ == "__main__":
    run_and_print(film_flow, Film(frames=50))
