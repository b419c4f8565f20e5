"""The pages about the worker: its settings, metrics and events."""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from typing import get_args

from pydantic import BaseModel
from tools.reference.pages import attribute_notes, metric_tables, page, table

from flowworker.settings import Settings, option, variable
from flowworker.telemetry import events
from flowworker.telemetry.metric_list import METRICS
from flowworker.worker_options import allowed

ELIXIR_NAMES = {
    events.WorkerStarted: "[:pgflow, :worker, :start]",
    events.WorkerStopped: "[:pgflow, :worker, :stop]",
    events.PollStarted: "[:pgflow, :worker, :poll, :start]",
    events.PollStopped: "[:pgflow, :worker, :poll, :stop]",
    events.TaskStarted: "[:pgflow, :worker, :task, :start], job start",
    events.TaskStopped: "[:pgflow, :worker, :task, :stop], job stop",
    events.TaskFailed: "[:pgflow, :worker, :task, :exception], job error",
    events.RunStarted: "[:pgflow, :run, :started]",
    events.RunCompleted: "[:pgflow, :run, :completed]",
    events.RunFailed: "[:pgflow, :run, :failed]",
}
"""What the Elixir workers call the event; an event that is not here is ours alone."""


def explained(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Of every field of a model its name, default, what it accepts, and what it means."""
    for name, field in model.model_fields.items():
        yield name, _default(field.default), allowed(model, name), field.description or ""


def configuration() -> str:
    """Every setting of a worker."""
    rows = [(f"`{variable(name)}`", f"`{option(name)}`", *about) for name, *about in explained(Settings)]
    return page(
        "Configuration of a worker",
        "Environment variables of a worker process, and the options of `flowworker run` that override them.",
        "An empty variable counts as unset. Durations are seconds. A wrong value ends the process with exit code",
        "64 and a line that names the variable and what is allowed.\n",
        *table(("Variable", "Option", "Default", "Allowed", "Meaning"), rows),
    )


def metrics() -> str:
    """Every metric of a worker."""
    return page(
        "Metrics of a worker",
        "Served at `/metrics` on the probe port, as Prometheus text or OpenMetrics. Labels are bounded by what is",
        "deployed: `source` is `flow` or `queue`, `slug` the flow's slug or the queue's name, `step` a step of the",
        "flow (for a queue its name again). Ids of runs, tasks, messages and workers are in logs and traces.",
        "On Linux the usual `process_*` metrics of the Prometheus client (start time, memory, CPU, open files) are",
        "there too.\n",
        *metric_tables(METRICS),
    )


def event_list() -> str:
    """Every event of the stream."""
    kinds = get_args(events.Event)
    mapping = [(f"`{kind.__name__}`", _in_elixir(kind), _summary(kind)) for kind in kinds]
    return page(
        "Events",
        "Everything that happens in a worker is one frozen dataclass of `flowworker.telemetry.events`, handed to",
        "every subscriber of the worker's `EventStream`. Logs, metrics and traces are subscribers; any callable",
        "can be one, synchronous or asynchronous; [its rules](../how-to/embed-a-worker.md#listen-to-what-happens).",
        "Durations are seconds.\n",
        *table(("Event", "In the Elixir workers", "Meaning"), mapping),
        *(line for kind in kinds for line in _details(kind)),
    )


def _details(kind: type) -> Iterable[str]:
    notes = attribute_notes(kind)
    rows = [
        (f"`{field.name}`", f"`{_type_name(field.type)}`", notes.get(field.name, ""))
        for field in dataclasses.fields(kind)
    ]
    return (f"\n## {kind.__name__}\n", inspect.getdoc(kind) or "", "", *table(("Field", "Type", "Notes"), rows))


def _in_elixir(kind: type) -> str:
    return f"`{ELIXIR_NAMES[kind]}`" if kind in ELIXIR_NAMES else "no counterpart"


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _type_name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("collections.abc.", "")


def _default(value: object) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"
