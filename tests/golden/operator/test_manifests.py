"""The objects in full, for a small resource and for one that uses everything."""

from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.render.rendering import Owner, render

OWNER = Owner(namespace="shop", name="site-report", uid="8d2f1c9e")

SMALL: dict[str, Any] = {
    "flow": "site_report",
    "handler": "app.flows:site_report",
    "image": "registry.example/site:1.4",
    "database": {"secretRef": {"name": "postgres-app"}},
}
FULL: dict[str, Any] = {
    "queue": "mail",
    "handler": "app.jobs:mail",
    "image": "registry.example/site:1.4",
    "database": {
        "secretRef": {"name": "postgres-app", "key": "pooled"},
        "directSecretRef": {"name": "postgres-app"},
        "ownerSecretRef": {"name": "postgres-owner"},
    },
    "worker": {"maxConcurrency": 4, "signalStrategy": "Notify", "drainTimeoutSeconds": 20, "compile": "Verify"},
    "template": {
        "metadata": {"labels": {"team": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "worker",
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                    "envFrom": [{"secretRef": {"name": "api-keys"}}],
                    "volumeMounts": [{"name": "app", "mountPath": "/app"}],
                },
                {"name": "proxy", "image": "registry.example/proxy:2"},
            ],
            "volumes": [{"name": "app", "configMap": {"name": "app"}}],
        },
    },
}


@pytest.mark.parametrize("written", [SMALL, FULL], ids=["small", "full"])
def test_the_deployment(written: dict[str, Any], snapshot: SnapshotAssertion) -> None:
    rendered = render(OWNER, FlowWorkerSpec.model_validate(written)).deployment(grace=75, replicas=1)
    assert yaml.safe_dump(rendered, sort_keys=False) == snapshot


def test_the_disruption_budget(snapshot: SnapshotAssertion) -> None:
    budget = render(OWNER, FlowWorkerSpec.model_validate(SMALL)).disruption_budget()
    assert yaml.safe_dump(budget, sort_keys=False) == snapshot
