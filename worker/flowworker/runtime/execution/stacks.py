"""Where running code is, seen from another thread or from the event loop."""

import sys
import traceback
from collections.abc import Sequence
from types import CoroutineType, FrameType
from typing import Any, cast


def thread_frames(thread_id: int | None) -> Sequence[FrameType]:
    """The frames in which a thread runs now, outermost first."""
    frame = sys._current_frames().get(thread_id or 0)  # pyright: ignore[reportPrivateUsage]
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def awaiting_frames(awaitable: object) -> Sequence[FrameType]:
    """Where a suspended coroutine waits, outermost first: the chain of its awaits."""
    frames: list[FrameType] = []
    while isinstance(awaitable, CoroutineType):
        coroutine = cast("CoroutineType[Any, Any, Any]", awaitable)
        if coroutine.cr_frame is not None:
            frames.append(coroutine.cr_frame)
        awaitable = coroutine.cr_await
    return frames


def format_frames(frames: Sequence[FrameType]) -> str:
    """Frames as in a traceback, from the first one on that is not ours."""
    start = next((n for n, frame in enumerate(frames) if not _is_machinery(frame)), 0)
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames[start:])
    return "".join(summary.format())


def _is_machinery(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("flowworker.") or name in {"threading", "contextvars"}
