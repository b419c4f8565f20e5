"""Values as people set them; every test of what is rendered runs over all of them."""

from typing import Any

EVERYTHING: dict[str, Any] = {
    "commonLabels": {"team": "platform"},
    "namespaces": ["shop", "billing"],
    "image": {"repository": "registry.example:5000/flowworker-operator", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "logging": {"format": "console", "level": "debug"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "podAnnotations": {"note": "x"},
    "podLabels": {"tier": "system"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "serviceAccount": {"name": "somebody", "annotations": {"note": "x"}},
    "networkPolicy": {
        "enabled": True,
        "databasePorts": [5432, 6543],
        "databaseCIDRs": ["10.0.0.0/8", "fd00::/8"],
        "apiServerCIDRs": ["192.0.2.7/32"],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
    },
    "service": {"annotations": {"note": "x"}},
    "monitoring": {
        "serviceMonitor": {
            "enabled": True, "labels": {"release": "prometheus"},
            "relabelings": [{"targetLabel": "cluster", "replacement": "one"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "podMonitor": {
            "enabled": True, "labels": {"release": "prometheus"},
            "relabelings": [{"targetLabel": "cluster", "replacement": "one"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "rules": {"enabled": True, "labels": {"release": "prometheus"}, "runbookURL": "https://docs.example/runbooks"},
        "dashboard": {"enabled": True, "annotations": {"folder": "PostgreSQL"}},
    },
    "databaseInstall": {
        "enabled": True, "secret": {"name": "postgres-owner"}, "roles": ["flowworker_worker", "reports"],
        "clientRoles": ["shop", "billing"], "adminRoles": ["ada"], "runEvents": "all",
    },
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}\n",
    ],
}  # fmt: skip

COMBINATIONS: dict[str, dict[str, Any]] = {
    "nothing set": {},
    "everything set": EVERYTHING,
    "one namespace": {"namespaces": ["shop"]},
    "no CRD": {"crds": {"install": False}},
    "rights from elsewhere": {
        "rbac": {"create": False, "aggregate": False}, "serviceAccount": {"create": False, "name": "mine"},
    },
    "the default service account": {"serviceAccount": {"create": False}},
    "no replica": {"replicas": 0},
    "two replicas without a budget": {"replicas": 2, "podDisruptionBudget": {"enabled": False}},
    "a budget in percent": {"replicas": 4, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    "an open network policy": {"networkPolicy": {"enabled": True}},
    "only metrics of workers": {"monitoring": {"podMonitor": {"enabled": True}}},
    "only alerts": {"monitoring": {"rules": {"enabled": True}}},
    "a database without roles": {"databaseInstall": {"enabled": True, "secret": {"name": "owner", "key": "dsn"}}},
    "a user chosen by the platform": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "other names": {"fullnameOverride": "fw", "nameOverride": "worker"},
    "as a subchart": {"global": {"whatever": 1}},
}  # fmt: skip
