"""The objects in full, for a small resource and for one that uses everything."""

from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.render.budget import disruption_budget
from flowworker_operator.render.deployment import deployment
from flowworker_operator.render.identity import Owner
from flowworker_operator.render.pod import revision_of

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
    spec = FlowWorkerSpec.model_validate(written)
    revision = revision_of(OWNER.name, spec)
    rendered = deployment(OWNER, spec, revision=revision, grace=75, replicas=1)
    assert yaml.safe_dump(rendered, sort_keys=False) == snapshot


def test_the_disruption_budget(snapshot: SnapshotAssertion) -> None:
    assert yaml.safe_dump(disruption_budget(OWNER), sort_keys=False) == snapshot
