"""Configuration files of the daemons, as pure functions of the layout."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from testkit.cluster.certificates import write_private
from testkit.cluster.layout import DOMAIN, LOOPBACK, POD_RANGE, Layout, control_group

AUDIT_POLICY = "audit-policy.json"
ENCRYPTION = "encryption.json"
SCHEDULER = "scheduler.json"
KUBELET = "kubelet.json"
KUBE_PROXY = "kube-proxy.json"
CONTAINERD = "containerd.toml"
COREFILE = "Corefile"
RESOLV_CONF = "resolv.conf"
CNI_FOLDER = "cni"

PAUSE_IMAGE = "localhost/pause:e2e"
BRIDGE = "cni0"

Document = dict[str, Any]


def control_plane_files(layout: Layout, secret: bytes) -> dict[str, str]:
    """Files of API server and scheduler by name.

    Args:
        layout: the cluster.
        secret: 32 random bytes that encrypt Secrets in etcd.
    """
    return {
        AUDIT_POLICY: _text(_audit_policy()),
        ENCRYPTION: _text(_encryption(secret)),
        SCHEDULER: _text(_scheduler(layout)),
    }


def node_files(layout: Layout, *, open_files: int) -> dict[str, str]:
    """Files of everything that runs only on a node, by name.

    Args:
        layout: the cluster.
        open_files: hard limit of open files, which kubelet may not exceed without CAP_SYS_RESOURCE.
    """
    return {
        KUBELET: _text(_kubelet(layout, open_files)),
        KUBE_PROXY: _text(_kube_proxy(layout)),
        CONTAINERD: _containerd(layout),
        COREFILE: _corefile(layout),
        RESOLV_CONF: "",
        f"{CNI_FOLDER}/10-bridge.conflist": _text(_network()),
    }


def write_files(layout: Layout, files: Mapping[str, str]) -> None:
    """Write configuration files; all are private, since some hold keys."""
    for name, content in files.items():
        path = layout.configuration / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, content.encode())


def _text(document: Document) -> str:
    return json.dumps(document, indent=1) + "\n"


def _audit_policy() -> Document:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "None", "users": ["system:apiserver"]}, {"level": "Metadata"}],
    }


def _encryption(secret: bytes) -> Document:
    keys = [{"name": "key-1", "secret": base64.b64encode(secret).decode()}]
    providers: list[Document] = [{"secretbox": {"keys": keys}}, {"identity": {}}]
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    }


def _scheduler(layout: Layout) -> Document:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("scheduler")), "qps": 200, "burst": 400},
        "leaderElection": {"leaderElect": False},
    }


def _kubelet(layout: Layout, open_files: int) -> Document:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{control_group(layout.state)}",
        "cgroupsPerQOS": True,
        "clusterDNS": [layout.dns_service],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{layout.run / 'containerd.sock'}",
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "memory.available": "200Mi",
        },
        # Else kubelet refuses to start on cgroup v1.
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": {"KubeletSeparateDiskGC": False},
        "healthzBindAddress": LOOPBACK,
        "healthzPort": layout.ports.kubelet_health,
        # Off: an image that was loaded from an archive and is then removed can never be pulled again.
        "imageGCHighThresholdPercent": 100,
        "logging": {"verbosity": 1},
        "maxOpenFiles": open_files,
        "maxPods": 60,
        "nodeStatusUpdateFrequency": "5s",
        # Below zero needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        # The machine's own settings stay untouched: the node's start shows kubelet those it expects.
        "protectKernelDefaults": True,
        "readOnlyPort": 0,
        "resolvConf": str(layout.configuration / RESOLV_CONF),
        "seccompDefault": True,
        "tlsCertFile": str(layout.certificate("kubelet-server")),
        "tlsPrivateKeyFile": str(layout.key("kubelet-server")),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def _kube_proxy(layout: Layout) -> Document:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "clusterCIDR": POD_RANGE,
        # Zero leaves the machine's connection tracking as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"{LOOPBACK}:{layout.ports.proxy_health}",
        "hostnameOverride": layout.node,
        "iptables": {"minSyncPeriod": "1s"},
        "metricsBindAddress": f"{LOOPBACK}:{layout.ports.proxy_metrics}",
        "mode": "iptables",
        "oomScoreAdj": 0,
    }


def _network() -> Document:
    bridge: Document = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports: Document = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "1.0.0", "name": "e2e", "plugins": [bridge, ports]}


def _containerd(layout: Layout) -> str:
    return f"""version = 2
root = "{layout.state / "containerd"}"
state = "{layout.run / "containerd"}"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{layout.run / "containerd.sock"}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# A lower score than the parent's needs CAP_SYS_RESOURCE; without it no sandbox would start.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{layout.configuration / CNI_FOLDER}"
"""


def _corefile(layout: Layout) -> str:
    return f""".:53 {{
    bind {layout.address}
    errors
    health {LOOPBACK}:{layout.ports.dns_health}
    ready {LOOPBACK}:{layout.ports.dns_ready}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfig("coredns")}
        ttl 5
    }}
    cache 5
    # Names without an owner do not exist; without this they would be failures, which clients ask again and again.
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""
