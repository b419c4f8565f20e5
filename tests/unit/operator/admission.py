"""Resources as users write them: which the API server takes, and which field it blames for the others.

Written as changes to a small valid spec, by dotted path; a value of ABSENT removes the field.
"""

from copy import deepcopy
from typing import Any

from tests.unit.operator.samples import manifest

ABSENT = object()

Changes = dict[str, Any]

VALID: dict[str, Changes] = {
    "the smallest": {},
    "a queue": {"flow": ABSENT, "queue": "mail"},
    "a queue with unusual characters": {"flow": ABSENT, "queue": "Mail to-send.v2"},
    "a slug that begins with an underscore": {"flow": "_report"},
    "the longest slug": {"flow": "f" * 47},
    "a nested handler": {"handler": "a.b.c:flows.report"},
    "another key": {"database.secretRef.key": "dsn"},
    "an owner": {"database.ownerSecretRef": {"name": "postgres-owner", "key": "uri"}},
    "a direct connection": {"database.directSecretRef": {"name": "postgres-direct"}},
    "every setting of a worker": {
        "worker": {
            "maxConcurrency": 1000, "batchSize": 1, "signalStrategy": "Notify", "minPollIntervalMilliseconds": 10,
            "maxPollIntervalMilliseconds": 3_600_000, "notifyFallbackIntervalMilliseconds": 60_000,
            "drainTimeoutSeconds": 0, "compile": "Verify",
        }
    },
    "a drain timeout that is null": {"worker.drainTimeoutSeconds": None},
    "tasks per replica that are null": {"scaling.tasksPerReplica": None},
    "equal poll intervals": {"worker": {"minPollIntervalMilliseconds": 50, "maxPollIntervalMilliseconds": 50}},
    "external scaling": {"scaling.mode": "External", "replicas": 3},
    "external scaling to zero": {"scaling.mode": "External", "replicas": 0},
    "a dry run": {"scaling.mode": "DryRun"},
    "paused": {"scaling.mode": "Paused"},
    "a fixed number": {"scaling": {"minReplicas": 4, "maxReplicas": 4}},
    "no windows": {"scaling": {"idleSecondsBeforeZero": 0, "scaleDownWindowSeconds": 0}},
    "a short deadline": {"rollout.progressDeadlineSeconds": 10},
    "an image by digest": {"image": "registry.example:5000/team/report@sha256:" + "0" * 64},
    "labels and annotations": {"template.metadata": {"labels": {"team": "web"}, "annotations": {"note": "x" * 999}}},
    "resources": {
        "template.spec": {"containers": [{"name": "worker", "resources": {"requests": {"cpu": "100m"}}}]}
    },
    "variables and arguments": {
        "template.spec": {"containers": [{
            "name": "worker", "command": ["tini"], "args": ["--"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
        }]}
    },
    "a sidecar": {"template.spec": {"containers": [{"name": "proxy", "image": "proxy:1"}, {"name": "worker"}]}},
    "any field of a pod": {
        "template.spec": {"nodeSelector": {"disk": "ssd"}, "volumes": [{"name": "app", "configMap": {"name": "app"}}]}
    },
    "a grace period": {"template.spec.terminationGracePeriodSeconds": 300},
}  # fmt: skip

INVALID: dict[str, tuple[Changes, str]] = {
    "neither flow nor queue": ({"flow": ABSENT}, "spec"),
    "flow and queue": ({"queue": "mail"}, "spec"),
    "an empty slug": ({"flow": ""}, "flow"),
    "a slug with a dash": ({"flow": "site-report"}, "flow"),
    "a slug that begins with a digit": ({"flow": "1report"}, "flow"),
    "a slug that is not ASCII": ({"flow": "rapport_é"}, "flow"),
    "a slug that is too long": ({"flow": "f" * 48}, "flow"),
    "a reserved slug": ({"flow": "run"}, "flow"),
    "a slug that is a number": ({"flow": 7}, "flow"),
    "a queue with a semicolon": ({"flow": ABSENT, "queue": "a;b"}, "queue"),
    "a queue with a quote": ({"flow": ABSENT, "queue": "a'b"}, "queue"),
    "a queue with a dollar": ({"flow": ABSENT, "queue": "a$b"}, "queue"),
    "a queue with a comment": ({"flow": ABSENT, "queue": "a--b"}, "queue"),
    "a queue that is too long": ({"flow": ABSENT, "queue": "q" * 48}, "queue"),
    "no handler": ({"handler": ABSENT}, "handler"),
    "a handler without an object": ({"handler": "app.flows"}, "handler"),
    "a handler that is a path": ({"handler": "app/flows.py:report"}, "handler"),
    "a handler that is too long": ({"handler": "a" * 253 + ":b"}, "handler"),
    "no image": ({"image": ABSENT}, "image"),
    "an empty image": ({"image": ""}, "image"),
    "an image with a space": ({"image": "report: 1"}, "image"),
    "no database": ({"database": ABSENT}, "database"),
    "a database without a secret": ({"database": {}}, "database.secretRef"),
    "a secret without a name": ({"database.secretRef": {"key": "uri"}}, "database.secretRef.name"),
    "a secret with a bad name": ({"database.secretRef.name": "Postgres_App"}, "database.secretRef.name"),
    "a secret with an empty key": ({"database.secretRef.key": ""}, "database.secretRef.key"),
    "a secret with a bad key": ({"database.secretRef.key": "a/b"}, "database.secretRef.key"),
    "an owner without a name": ({"database.ownerSecretRef": {}}, "database.ownerSecretRef.name"),
    "a direct secret that is a string": ({"database.directSecretRef": "postgres"}, "database.directSecretRef"),
    "no concurrency": ({"worker.maxConcurrency": 0}, "worker.maxConcurrency"),
    "too much concurrency": ({"worker.maxConcurrency": 1001}, "worker.maxConcurrency"),
    "a fraction of concurrency": ({"worker.maxConcurrency": 1.5}, "worker.maxConcurrency"),
    "no batch": ({"worker.batchSize": 0}, "worker.batchSize"),
    "an unknown strategy": ({"worker.signalStrategy": "notify"}, "worker.signalStrategy"),
    "a poll interval of zero": ({"worker.minPollIntervalMilliseconds": 0}, "worker.minPollIntervalMilliseconds"),
    "a poll interval of hours": (
        {"worker.maxPollIntervalMilliseconds": 3_600_001}, "worker.maxPollIntervalMilliseconds",
    ),
    "poll intervals the wrong way round": (
        {"worker": {"minPollIntervalMilliseconds": 900, "maxPollIntervalMilliseconds": 100}},
        "worker.minPollIntervalMilliseconds",
    ),
    "a short poll interval above the default": (
        {"worker.maxPollIntervalMilliseconds": 500}, "worker.minPollIntervalMilliseconds",
    ),
    "a fallback of zero": (
        {"worker.notifyFallbackIntervalMilliseconds": 0}, "worker.notifyFallbackIntervalMilliseconds",
    ),
    "a negative drain timeout": ({"worker.drainTimeoutSeconds": -1}, "worker.drainTimeoutSeconds"),
    "an unknown way to compile": ({"worker.compile": "Always"}, "worker.compile"),
    "an unknown mode": ({"scaling.mode": "Off"}, "scaling.mode"),
    "a negative minimum": ({"scaling.minReplicas": -1}, "scaling.minReplicas"),
    "a maximum of zero": ({"scaling.maxReplicas": 0}, "scaling.maxReplicas"),
    "a maximum beyond all bounds": ({"scaling.maxReplicas": 1001}, "scaling.maxReplicas"),
    "a minimum above the maximum": ({"scaling": {"minReplicas": 5, "maxReplicas": 4}}, "scaling.minReplicas"),
    "a minimum above the default maximum": ({"scaling.minReplicas": 11}, "scaling.minReplicas"),
    "no tasks per replica": ({"scaling.tasksPerReplica": 0}, "scaling.tasksPerReplica"),
    "a negative idle time": ({"scaling.idleSecondsBeforeZero": -1}, "scaling.idleSecondsBeforeZero"),
    "a window of more than a day": ({"scaling.scaleDownWindowSeconds": 86_401}, "scaling.scaleDownWindowSeconds"),
    "a window that is text": ({"scaling.scaleDownWindowSeconds": "2m"}, "scaling.scaleDownWindowSeconds"),
    "negative replicas": ({"replicas": -1}, "replicas"),
    "replicas beyond all bounds": ({"replicas": 1001}, "replicas"),
    "a deadline that is too short": ({"rollout.progressDeadlineSeconds": 9}, "rollout.progressDeadlineSeconds"),
    "a label that is too long": ({"template.metadata": {"labels": {"a": "x" * 64}}}, "template.metadata.labels.a"),
    "a label that is a number": ({"template.metadata": {"labels": {"a": 1}}}, "template.metadata.labels.a"),
    "annotations of more than 256 KiB together": (
        {"template.metadata": {"annotations": {f"a{number}": "x" * 65_000 for number in range(5)}}},
        "template.metadata.annotations",
    ),
    "variables and arguments of more than 256 KiB together": (
        {"template.spec": {"containers": [
            {"name": "worker", "env": [{"name": f"A{number}", "value": "x" * 65_000} for number in range(3)]},
            {"name": "b", "command": ["x" * 65_000], "args": ["x" * 65_000]},
        ]}},
        "template.spec.containers",
    ),
    "a variable without a name": (
        {"template.spec": {"containers": [{"name": "worker", "env": [{"value": "1"}]}]}}, "template.spec.containers",
    ),
    "a variable that is a number": (
        {"template.spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": 1}]}]}},
        "template.spec.containers",
    ),
    "containers that are a map": ({"template.spec": {"containers": {"worker": {}}}}, "template.spec.containers"),
    "a container without a name": ({"template.spec": {"containers": [{"image": "x"}]}}, "template.spec.containers"),
    "a container with a bad name": ({"template.spec": {"containers": [{"name": "W"}]}}, "template.spec.containers"),
    "seventeen containers": (
        {"template.spec": {"containers": [{"name": f"c{index}"} for index in range(17)]}}, "template.spec.containers",
    ),
    "a negative grace period": (
        {"template.spec.terminationGracePeriodSeconds": -1}, "template.spec.terminationGracePeriodSeconds",
    ),
}  # fmt: skip

BY_RULE = frozenset(
    {
        "a reserved slug",
        "poll intervals the wrong way round",
        "a short poll interval above the default",
        "a minimum above the maximum",
        "a minimum above the default maximum",
        "annotations of more than 256 KiB together",
        "variables and arguments of more than 256 KiB together",
    }
)
"""Refused by a CEL rule; the models alone would take them."""


def spec_with(changes: Changes) -> dict[str, Any]:
    """A valid spec with some changes."""
    spec = deepcopy(manifest())
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return spec
