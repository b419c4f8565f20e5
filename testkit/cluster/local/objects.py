"""What a cluster needs beside its daemons: rights of our own daemons, the DNS service, volumes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testkit.cluster.certificates import API_SERVER_TO_KUBELET
from testkit.cluster.layout import Layout

Object = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"
STORAGE_CLASS = "standard"
VOLUMES = 8
VOLUME_SIZE = "4Gi"

COREDNS_RULES = [
    {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]
KWOK_RULES = [
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "patch", "update"]},
    {"apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch", "update"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete", "patch", "update"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"],
    },
]
DNS_PORTS = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
]


def first_objects(layout: Layout) -> Iterator[tuple[str, Object]]:
    """Collection of the API and the object to create in it, in order."""
    bindings, roles = f"apis/{RBAC}/v1/clusterrolebindings", f"apis/{RBAC}/v1/clusterroles"
    yield bindings, _binding("e2e:kubelet-api", "system:kubelet-api-admin", API_SERVER_TO_KUBELET)
    yield roles, _role("e2e:coredns", COREDNS_RULES)
    yield bindings, _binding("e2e:coredns", "e2e:coredns", "e2e-coredns")
    yield roles, _role("e2e:kwok", KWOK_RULES)
    yield bindings, _binding("e2e:kwok", "e2e:kwok", "e2e-kwok")
    yield "api/v1/namespaces/kube-system/services", _dns_service(layout)
    yield "apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", _dns_endpoints(layout)
    yield "apis/storage.k8s.io/v1/storageclasses", storage_class()
    for path in volume_folders(layout):
        yield "api/v1/persistentvolumes", volume(path, layout.node)


def volume_folders(layout: Layout) -> list[Path]:
    """Where the volumes keep what is written to them."""
    return [layout.state / "volumes" / str(number) for number in range(VOLUMES)]


def _role(name: str, rules: list[dict[str, list[str]]]) -> Object:
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}


def _binding(name: str, role: str, user: str) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }


def _dns_service(layout: Layout) -> Object:
    """Without a selector: CoreDNS is a process of the node, not a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": layout.dns_service, "ports": DNS_PORTS},
    }


def _dns_endpoints(layout: Layout) -> Object:
    labels = {"kubernetes.io/service-name": "kube-dns"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": "kube-dns-node", "namespace": "kube-system", "labels": labels},
        "endpoints": [{"addresses": [layout.address], "conditions": {"ready": True}}],
        "ports": DNS_PORTS,
    }


def storage_class() -> Object:
    """Volumes that are there already: kubelet gives those to a pod's fsGroup, which it refuses for host paths."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume(path: Path, node: str) -> Object:
    """A folder of a node, to be claimed once."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"local-{path.name}"},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
