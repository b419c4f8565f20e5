"""What kind and kubeadm are asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any, Self

Document = dict[str, Any]

NODE_IMAGES: Mapping[str, str] = {
    "1.36": "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed",
    "1.35": "kindest/node:v1.35.8@sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0",
    "1.34": "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d",
}
"""Those that were built for the kind in `modules/kind`; a node image works with its own kind only."""

CLUSTER = "flowworker"
NODE = f"{CLUSTER}-control-plane"

POD_RANGE = "198.18.64.0/20"
SERVICE_RANGE = "198.19.0.0/16"
DNS_SERVICE = "198.19.0.10"
DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What an engine of ours runs on."""

    old_groups: bool
    """Whether its control groups are of version 1."""
    open_files: int
    """Hard limit of open files, which kubelet may not exceed without a capability that a sandbox has not got."""

    @classmethod
    def look(cls) -> Self:
        """This machine."""
        old_groups = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return cls(old_groups=old_groups, open_files=getrlimit(RLIMIT_NOFILE)[1])


def node_names(number: int) -> tuple[str, ...]:
    """Names that kind gives to so many nodes, that of the control plane first."""
    return NODE, *(f"{CLUSTER}-worker{other if other > 1 else ''}" for other in range(1, number))


def configuration(version: str, nodes: int) -> Document:
    """A cluster of node images that a registry has."""
    return _cluster(NODE_IMAGES[version], nodes)


def own_configuration(image: str, nodes: int, host: Host, port: int) -> Document:
    """A cluster of the node image that was made here, in an engine of our own.

    Args:
        image: Name of the node image.
        nodes: How many nodes.
        host: What it runs on.
        port: Of loopback, where the API server has to be.
    """
    cluster = _cluster(image, nodes)
    cluster["networking"] = {
        "apiServerAddress": "127.0.0.1",
        "apiServerPort": port,
        # The image brings a network, and kubeadm must not bring names: both come with the image's manifest.
        "disableDefaultCNI": True,
        "kubeProxyMode": "iptables",
        "podSubnet": POD_RANGE,
        "serviceSubnet": SERVICE_RANGE,
    }
    cluster["kubeadmConfigPatches"] = [
        _patch("", "InitConfiguration", {"skipPhases": ["preflight", "addon/coredns"]}),
        _patch("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", _kubelet(host)),
        _patch("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", {"oomScoreAdj": 0}),
    ]
    return cluster


def routes(nodes: Sequence[Document]) -> Iterator[tuple[str, list[str]]]:
    """The commands, each with the name of its node, that lead every node to the pods of the others."""
    for node, other in permutations(nodes, 2):
        (address,) = (each["address"] for each in other["status"]["addresses"] if each["type"] == "InternalIP")
        yield node["metadata"]["name"], ["ip", "route", "replace", other["spec"]["podCIDR"], "via", address]


def _cluster(image: str, nodes: int) -> Document:
    # kind keeps pods off the control plane where there are other nodes; here every node is for all.
    untainted = _patch("", "InitConfiguration", {"nodeRegistration": {"taints": []}})
    first: Document = {"role": "control-plane", "image": image}
    if nodes > 1:
        first["kubeadmConfigPatches"] = [untainted]
    others: list[Document] = [{"role": "worker", "image": image} for _ in range(nodes - 1)]
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [first, *others]}


def _kubelet(host: Host) -> Document:
    return {
        # Below zero needs a capability that a sandbox has not got.
        "oomScoreAdj": 0,
        "maxOpenFiles": host.open_files,
        **({"failCgroupV1": False} if host.old_groups else {}),
    }


def _patch(version: str, kind: str, values: Document) -> str:
    """A merge patch, for every version where none is named; JSON is YAML."""
    return json.dumps({**({"apiVersion": version} if version else {}), "kind": kind, **values})
