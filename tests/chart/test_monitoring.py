"""Dashboard, alerts and runbooks speak about metrics that exist, and about the same alerts."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.chart.rendering import CHART, Object, only, render
from tools.dashboard import COLUMNS, ROWS, expressions

from flowworker.telemetry.metric_list import METRICS as WORKER_METRICS
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import MANAGED_BY_LABEL, MANAGER
from flowworker_operator.metric_list import METRICS as OPERATOR_METRICS
from flowworker_operator.render.container import worker_container

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
RUNBOOKS = (CHART.parents[1] / "docs" / "runbooks.md").read_text()

LABELS_OF_TARGETS = {"namespace", "pod", "instance", "container", "le"}


def series() -> dict[str, set[str]]:
    """Every series there is, with its labels."""
    found: dict[str, set[str]] = {}
    for spec in (*WORKER_METRICS, *OPERATOR_METRICS):
        suffixes = ("_bucket", "_sum", "_count") if spec.kind == "histogram" else ("",)
        found |= {spec.name + suffix: set(spec.labels) | LABELS_OF_TARGETS for suffix in suffixes}
    return found


def named(text: str) -> set[str]:
    """The metrics a text names."""
    return set(re.findall(r"\bflowworker_[a-z_]+[a-z]\b", text))


def labels_used(expression: str) -> set[str]:
    """Labels by which an expression groups or selects."""
    grouped = [name for inside in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for name in inside.split(",")]
    selected = re.findall(r"[{,]\s*(\w+)\s*[=!]~?\"", expression)
    return {name.strip() for name in (*grouped, *selected)}


def queries() -> Iterator[tuple[str, str]]:
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)
    yield from ((panel.title, expression) for row in ROWS for panel in row.panels for _, expression in panel.series)


@pytest.mark.parametrize(("where", "expression"), list(queries()))
def test_every_query_names_metrics_that_exist_by_labels_they_have(where: str, expression: str) -> None:
    known = series()
    metrics = named(expression)
    assert metrics, where
    assert metrics - known.keys() == set()
    assert labels_used(expression) <= {label for metric in metrics for label in known[metric]}


def test_every_metric_of_a_runbook_exists() -> None:
    histograms = {spec.name for spec in (*WORKER_METRICS, *OPERATOR_METRICS)}
    mentioned = named(RUNBOOKS)
    assert len(mentioned) > 10
    assert mentioned - series().keys() - histograms == set()


def test_every_alert_has_its_runbook_and_no_runbook_is_left_over() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)
    assert sections == [rule["alert"] for rule in ALERTS]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_how_bad(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    known = series()
    assert used <= {label for metric in named(rule["expr"]) for label in known[metric]}


def test_series_of_a_flowworker_come_from_the_operator_that_acts() -> None:
    per_resource = {spec.name for spec in OPERATOR_METRICS if spec.kind == "gauge" and "flowworker" in spec.labels}
    asked = [expression for _, expression in queries() if named(expression) & per_resource]
    assert len(asked) > 10
    assert [query for query in asked if "and on (instance) (flowworker_operator_leader == 1)" not in query] == []


def test_alerts_link_to_the_runbooks_when_their_address_is_given() -> None:
    url = "https://docs.example/runbooks.md"
    rule = only(render({"monitoring": {"rules": {"enabled": True, "runbookURL": url}}}), "PrometheusRule")
    links = [one["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for one in group["rules"]]
    assert links == [f"{url}#{rule['alert'].lower()}" for rule in ALERTS]


def test_alerts_are_passed_on_as_they_were_written() -> None:
    rule = only(render({"monitoring": {"rules": {"enabled": True}}}), "PrometheusRule")
    assert [one for group in rule["spec"]["groups"] for one in group["rules"]] == ALERTS


def test_the_dashboard_is_what_the_chart_brings() -> None:
    config = only(render({"monitoring": {"dashboard": {"enabled": True}}}), "ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    shown = json.loads(config["data"]["flowworker.json"])
    found = [target["expr"] for panel in shown["panels"] for target in panel.get("targets", ())]
    assert found == list(expressions())


def test_no_panel_covers_another() -> None:
    panels: list[Object] = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    cells = [cell for panel in panels for cell in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < COLUMNS
    assert len({panel["id"] for panel in panels}) == len(panels)


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_every_label_of_the_operator_s_series_stays_what_it_is() -> None:
    (endpoint,) = only(render({"monitoring": {"serviceMonitor": {"enabled": True}}}), "ServiceMonitor")["spec"][
        "endpoints"
    ]
    assert endpoint["honorLabels"] is True
    service = only(render(), "Service")
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_the_pod_monitor_finds_what_the_operator_makes() -> None:
    monitor = only(render({"monitoring": {"podMonitor": {"enabled": True}}}), "PodMonitor")["spec"]
    spec = FlowWorkerSpec.model_validate(
        {"flow": "a", "handler": "a:a", "image": "a", "database": {"secretRef": {"name": "a"}}}
    )
    ports = [port["name"] for port in worker_container(spec, {"name": "worker"})["ports"]]
    assert monitor["selector"]["matchLabels"] == {MANAGED_BY_LABEL: MANAGER}
    assert monitor["podMetricsEndpoints"][0]["port"] in ports
    assert monitor["namespaceSelector"] == {"any": True}


def test_the_pod_monitor_keeps_to_the_namespaces() -> None:
    values = {"namespaces": ["shop"], "monitoring": {"podMonitor": {"enabled": True}}}
    assert only(render(values), "PodMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["shop"]}
