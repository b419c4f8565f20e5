"""What a node image of ours has kind create in every cluster: volumes, and the cluster's names."""

import json
from collections.abc import Iterator
from pathlib import Path

from testkit.cluster.kind.configuration import DNS_SERVICE, DOMAIN, NODE
from testkit.cluster.local.objects import COREDNS_RULES, DNS_PORTS, RBAC, VOLUMES, Object, storage_class, volume

COREDNS_IMAGE = "localhost/coredns:e2e"
SYSTEM = "kube-system"
LABELS = {"k8s-app": "kube-dns"}

COREFILE = f""".:53 {{
    errors
    health
    ready
    kubernetes {DOMAIN} in-addr.arpa {{
        ttl 5
    }}
    cache 5
    # Names without an owner do not exist; without this they would be failures, which clients ask again and again.
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def text(volumes: Path) -> str:
    """All of it, as kubectl reads it."""
    return "\n---\n".join(json.dumps(each) for each in _objects(volumes)) + "\n"


def volume_folders(volumes: Path) -> list[Path]:
    """Where the volumes keep what is written to them."""
    return [volumes / str(number) for number in range(VOLUMES)]


def _objects(volumes: Path) -> Iterator[Object]:
    yield storage_class()
    for path in volume_folders(volumes):
        yield volume(path, NODE)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("coredns")}
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": COREDNS_RULES,
    }
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": SYSTEM}],
    }
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("coredns"), "data": {"Corefile": COREFILE}}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _named("kube-dns"),
        "spec": {"clusterIP": DNS_SERVICE, "selector": LABELS, "ports": DNS_PORTS},
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _named("coredns"),
        "spec": {
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": _pod()},
        },
    }


def _named(name: str) -> Object:
    return {"name": name, "namespace": SYSTEM}


def _pod() -> Object:
    container: Object = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "failureThreshold": 5},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        # Beside the control plane, which no test takes away.
        "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
        "containers": [container],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
    }
