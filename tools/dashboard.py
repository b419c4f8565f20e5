"""The Grafana dashboard of the chart, as data: panels name what they show, the layout follows from their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson

Json = dict[str, Any]

COLUMNS = 24
"""Width of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "${source}"}

_SELECTED = 'namespace=~"$namespace",flowworker=~"$flowworker"'
_WORKERS = 'namespace=~"$namespace",slug=~"$slug"'
_LEADS = "and on (instance) (flowworker_operator_leader == 1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph."""

    title: str
    about: str
    series: Sequence[tuple[str, str]]
    """Legend and PromQL of each."""
    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a headline."""

    title: str
    panels: Sequence[Panel]
    height: int = 8


def dashboard() -> str:
    """The dashboard as JSON; the same at each call."""
    content: Json = {
        "uid": "flowworker",
        "title": "FlowWorker",
        "tags": ["flowworker", "postgresql"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_placed(ROWS)),
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n"


def expressions() -> Iterator[str]:
    """The PromQL of every series, for those who check it."""
    return (expression for row in ROWS for panel in row.panels for _, expression in panel.series)


def _of(metric: str) -> str:
    """A metric of the selected FlowWorkers, from the operator that acts."""
    return f"{metric}{{{_SELECTED}}} {_LEADS}"


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{_WORKERS}{more}}}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, by: str) -> str:
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', f'{by}, le')})"


ROWS = (
    Row(
        title="FlowWorkers",
        panels=(
            Panel(
                title="Ready",
                about="1 while the condition Ready is True.",
                series=(("{{namespace}}/{{flowworker}}", _of("flowworker_operator_ready")),),
                kind="stat",
                width=24,
            ),
            Panel(
                title="Workers",
                about="Wanted, there, and ready.",
                series=(
                    ("{{flowworker}} wanted", _of("flowworker_operator_desired_replicas")),
                    ("{{flowworker}} there", _of("flowworker_operator_replicas")),
                    ("{{flowworker}} ready", _of("flowworker_operator_ready_replicas")),
                ),
            ),
            Panel(
                title="Work",
                about="Tasks that could start now (capped), and tasks that run.",
                series=(
                    ("{{flowworker}} startable", _of("flowworker_operator_startable_tasks")),
                    ("{{flowworker}} in flight", _of("flowworker_operator_in_flight_tasks")),
                ),
            ),
            Panel(
                title="Longest wait",
                about="How long the task that has waited longest could have started.",
                series=(("{{flowworker}}", _of("flowworker_operator_oldest_startable_age_seconds")),),
                unit="s",
            ),
            Panel(
                title="Limited",
                about="1 while the work needs more workers than maxReplicas.",
                series=(("{{flowworker}}", _of("flowworker_operator_scaling_limited")),),
            ),
            Panel(
                title="Stalled",
                about="Tasks that will not go on without help; never scaled on.",
                series=(("{{flowworker}}", _of("flowworker_operator_stalled_tasks")),),
            ),
            Panel(
                title="Decisions",
                about="Changes of the number of workers wanted, by reason.",
                series=(
                    (
                        "{{flowworker}} {{reason}}",
                        "sum by (flowworker, reason) "
                        f"(increase(flowworker_operator_decisions_total{{{_SELECTED}}}[$__rate_interval]))",
                    ),
                ),
            ),
            Panel(
                title="Age of the last reading",
                about="Time since the database was last read; nothing shrinks on an old reading.",
                series=(("{{flowworker}}", _of("flowworker_operator_probe_age_seconds")),),
                unit="s",
            ),
            Panel(
                title="Visible messages",
                about="What pgmq shows, capped; on pgflow before 0.15.1 it includes running tasks.",
                series=(("{{flowworker}}", _of("flowworker_operator_queue_depth")),),
            ),
        ),
    ),
    Row(
        title="Workers (needs the PodMonitor)",
        panels=(
            Panel(
                title="Tasks completed",
                about="Tasks a second whose output the database has taken.",
                series=(("{{slug}} {{step}}", _rate("flowworker_tasks_completed_total", "slug, step")),),
                unit="ops",
            ),
            Panel(
                title="Attempts failed",
                about="Failed attempts a second; final ones have no attempt left.",
                series=(
                    (
                        "{{slug}} {{failure}} final={{final}}",
                        _rate("flowworker_tasks_failed_total", "slug, failure, final"),
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Given back and superseded",
                about="Tasks a second given back unfinished, and results that came too late.",
                series=(
                    ("{{slug}} released", _rate("flowworker_tasks_released_total", "slug")),
                    ("{{slug}} superseded", _rate("flowworker_tasks_superseded_total", "slug")),
                    ("{{slug}} recovered", _rate("flowworker_tasks_recovered_total", "slug")),
                ),
                unit="ops",
            ),
            Panel(
                title="Duration of handlers",
                about="Median and 95th percentile.",
                series=(
                    ("{{slug}} {{step}} p50", _quantile(0.5, "flowworker_task_duration_seconds", "slug, step")),
                    ("{{slug}} {{step}} p95", _quantile(0.95, "flowworker_task_duration_seconds", "slug, step")),
                ),
                unit="s",
            ),
            Panel(
                title="Wait before the first attempt",
                about="95th percentile, a wanted start delay included.",
                series=(("{{slug}}", _quantile(0.95, "flowworker_task_wait_seconds", "slug")),),
                unit="s",
            ),
            Panel(
                title="Slots in use",
                about="Share of the slots of all workers that run a task.",
                series=(
                    (
                        "{{slug}}",
                        f"sum by (slug) (flowworker_tasks_in_flight{{{_WORKERS}}}) "
                        f"/ sum by (slug) (flowworker_slots{{{_WORKERS}}})",
                    ),
                ),
                unit="percentunit",
            ),
            Panel(
                title="Blocked event loop",
                about="Share of the time that a handler keeps its worker from doing anything else.",
                series=(("{{slug}} {{step}}", _rate("flowworker_loop_blocked_seconds_total", "slug, step")),),
                unit="percentunit",
            ),
            Panel(
                title="Duration of claims",
                about="95th percentile of what the database needs to answer a claim.",
                series=(("{{slug}}", _quantile(0.95, "flowworker_poll_duration_seconds", "slug")),),
                unit="s",
            ),
            Panel(
                title="Heartbeats and losses",
                about="Age of the oldest heartbeat, and workers that died without a word.",
                series=(
                    ("{{slug}} oldest", f"max by (slug) (flowworker_heartbeat_age_seconds{{{_WORKERS}}})"),
                    (
                        "{{slug}} lost",
                        f"sum by (slug) (increase(flowworker_workers_lost_total{{{_WORKERS}}}[$__rate_interval]))",
                    ),
                ),
            ),
        ),
    ),
    Row(
        title="Operator",
        panels=(
            Panel(
                title="Who acts",
                about="1 for the process that holds the Lease.",
                series=(("{{pod}}", "flowworker_operator_leader"),),
            ),
            Panel(
                title="Rounds",
                about="99th percentile of one round for one FlowWorker, by outcome.",
                series=(
                    (
                        "{{outcome}}",
                        "histogram_quantile(0.99, sum by (outcome, le) "
                        "(rate(flowworker_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    ),
                ),
                unit="s",
            ),
            Panel(
                title="Waiting rounds",
                about="FlowWorkers that wait for their round, and the longest that one has waited or run.",
                series=(
                    ("{{pod}} waiting", "flowworker_operator_waiting_rounds"),
                    ("{{pod}} longest (s)", "flowworker_operator_longest_round_seconds"),
                ),
            ),
            Panel(
                title="Writes to the API server",
                about="A second; none while nothing changes.",
                series=(
                    (
                        "{{verb}} {{resource}}",
                        "sum by (verb, resource) (rate(flowworker_operator_api_writes_total[$__rate_interval]))",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Errors of the API server",
                about="A second, by kind. A few conflicts are normal.",
                series=(
                    (
                        "{{verb}} {{resource}} {{error}}",
                        "sum by (verb, resource, error) (rate(flowworker_operator_api_errors_total[$__rate_interval]))",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Changes no watch delivered",
                about="Found by the slow re-list instead.",
                series=(
                    (
                        "{{resource}}",
                        "sum by (resource) (increase(flowworker_operator_missed_changes_total[$__rate_interval]))",
                    ),
                ),
            ),
        ),
    ),
)


def _variables() -> Iterator[Json]:
    yield {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield _variable("namespace", "Namespace", "label_values(flowworker_operator_ready, namespace)")
    yield _variable(
        "flowworker", "FlowWorker", 'label_values(flowworker_operator_ready{namespace=~"$namespace"}, flowworker)'
    )
    yield _variable("slug", "Flow or queue", 'label_values(flowworker_slots{namespace=~"$namespace"}, slug)')


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """All panels with their places: left to right, a new line when the grid is full."""
    ids, y = count(1), 0
    for row in rows:
        yield {"id": next(ids), "type": "row", "title": row.title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + row.height
            place = {"x": x, "y": y, "w": panel.width, "h": row.height}
            yield {"id": next(ids), "gridPos": place, **_panel(panel)}
            x += panel.width
        y += row.height


def _panel(panel: Panel) -> Json:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (legend, expression) in enumerate(panel.series)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
