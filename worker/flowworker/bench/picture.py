"""The figures as one picture: rates beside the floor's, latencies against their limits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowworker.bench.budgets import MILLISECONDS
from flowworker.bench.report import Report, ThroughputRow
from flowworker.bench.throughput import Side
from flowworker.errors import UsageError

COLOURS = {Side.FLOOR: "#b8bec6", Side.WORKER: "#2f6fb0"}
WIDTH = 0.38


def draw(report: Report, path: Path) -> None:
    """Write the picture in the format that the path's suffix names.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError("the picture needs matplotlib: pip install matplotlib") from error
    figure: Any = Figure(figsize=(12, 4.2), layout="constrained")  # Any: its stubs are half typed
    FigureCanvasAgg(figure)
    rates, costs, latencies = figure.subplots(1, 3)
    _draw_bars(rates, report.throughput, [row.tasks_per_second for row in report.throughput])
    rates.set_yscale("log")
    rates.set_title("tasks per second")
    _draw_bars(costs, report.throughput, [_processor_milliseconds(row) for row in report.throughput])
    costs.set_title("processor time per task (ms)")
    _draw_latencies(latencies, report)
    environment = report.environment
    figure.suptitle(
        f"PostgreSQL {environment.postgresql}, {environment.python}, {environment.event_loop}, "
        f"{environment.processors} processors", fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=120)


def _processor_milliseconds(row: ThroughputRow) -> float:
    return (row.database_seconds_per_1000 or 0) + (row.process_seconds_per_1000 or 0)


def _draw_bars(axes: Any, rows: Sequence[ThroughputRow], values: Sequence[float]) -> None:
    places = list(dict.fromkeys((row.kind, row.concurrency) for row in rows))
    for side, shift in ((Side.FLOOR, -WIDTH / 2), (Side.WORKER, WIDTH / 2)):
        heights = {
            (row.kind, row.concurrency): value for row, value in zip(rows, values, strict=True) if row.side is side
        }
        axes.bar(
            [number + shift for number, place in enumerate(places) if place in heights],
            [heights[place] for place in places if place in heights],
            WIDTH, color=COLOURS[side], label=side,
        )  # fmt: skip
    axes.set_xticks(range(len(places)), [f"{kind}\n{concurrency}" for kind, concurrency in places])
    axes.legend(frameon=False)


def _draw_latencies(axes: Any, report: Report) -> None:
    measured = report.measurements.latencies
    for label, values in (("start to handler", measured.pickup), ("step to step", measured.steps)):
        if values:
            axes.ecdf([value * MILLISECONDS for value in values], label=label)
    axes.set_title("latency of an idle worker (ms)")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
