"""Command lines of every daemon, as pure functions of the layout; their files are written by `configuration`."""

from dataclasses import dataclass
from pathlib import Path

from testkit.cluster.configuration import (
    AUDIT_POLICY,
    CONTAINERD,
    COREFILE,
    ENCRYPTION,
    KUBE_PROXY,
    KUBELET,
    SCHEDULER,
)
from testkit.cluster.layout import LOOPBACK, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, Layout

CONTAINERD_PROGRAM = Path("/usr/bin/containerd")

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node=fake"
FAKE_POD_RANGE = "198.18.128.0/17"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """How to start one daemon, and how to see that it works."""

    name: str
    command: tuple[str, ...]
    health: str | None
    """URL that answers 200 once it works; https ones have a certificate of the cluster's authority and may ask for
    one. None: has to be asked in another way."""


def etcd(layout: Layout, *, durable: bool) -> Daemon:
    """The database of the API server.

    Args:
        layout: the cluster.
        durable: survive the loss of the machine, at the price of an fsync for every write.
    """
    ports = layout.ports
    peer = f"https://{LOOPBACK}:{ports.etcd_peer}"
    client = f"https://{LOOPBACK}:{ports.etcd}"
    health = f"http://{LOOPBACK}:{ports.etcd_health}"
    certificate, key, authority = layout.certificate("etcd"), layout.key("etcd"), layout.certificate("etcd-ca")
    return Daemon(
        name="etcd",
        health=f"{health}/health",
        command=(
            str(layout.programs["etcd"]),
            "--name=e2e",
            f"--data-dir={layout.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=e2e={peer}",
            f"--listen-metrics-urls={health}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            f"--trusted-ca-file={authority}",
            "--client-cert-auth",
            f"--peer-cert-file={certificate}",
            f"--peer-key-file={key}",
            f"--peer-trusted-ca-file={authority}",
            "--peer-client-cert-auth",
            "--quota-backend-bytes=2147483648",
            *(() if durable else ("--unsafe-no-fsync",)),
        ),
    )


def api_server(layout: Layout) -> Daemon:
    """The API server, with the admission plugins it has by default and NodeRestriction."""
    return Daemon(
        name="kube-apiserver",
        health=f"{layout.server}/readyz",
        command=(
            str(layout.programs["kube-apiserver"]),
            f"--advertise-address={layout.address}",
            # On loopback alone no other machine can reach it; on a node the service's address leads to the node's.
            f"--bind-address={LOOPBACK if layout.address == LOOPBACK else '0.0.0.0'}",
            f"--secure-port={layout.ports.api}",
            f"--tls-cert-file={layout.certificate('apiserver')}",
            f"--tls-private-key-file={layout.key('apiserver')}",
            f"--client-ca-file={layout.certificate('ca')}",
            f"--etcd-servers=https://{LOOPBACK}:{layout.ports.etcd}",
            f"--etcd-cafile={layout.certificate('etcd-ca')}",
            f"--etcd-certfile={layout.certificate('apiserver-etcd')}",
            f"--etcd-keyfile={layout.key('apiserver-etcd')}",
            f"--kubelet-certificate-authority={layout.certificate('ca')}",
            f"--kubelet-client-certificate={layout.certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={layout.key('apiserver-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            # As everywhere else: what a pod may do is for Pod Security to say, which gives its reasons.
            "--allow-privileged",
            "--anonymous-auth=false",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={layout.pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={layout.key('service-accounts')}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--audit-policy-file={layout.configuration / AUDIT_POLICY}",
            f"--audit-log-path={layout.audit_log}",
            f"--encryption-provider-config={layout.configuration / ENCRYPTION}",
            # Else a stop waits a minute for watches, which by their nature do not end.
            "--shutdown-watch-termination-grace-period=1s",
            # No service may lead to loopback.
            *(("--endpoint-reconciler-type=none",) if layout.address == LOOPBACK else ()),
            "--profiling=false",
        ),
    )


def controller_manager(layout: Layout) -> Daemon:
    """All controllers; with a raised rate, since ours is the only client and every test waits for it."""
    return Daemon(
        name="kube-controller-manager",
        health=f"https://{LOOPBACK}:{layout.ports.controller_manager}/healthz",
        command=(
            str(layout.programs["kube-controller-manager"]),
            *_kubeconfigs(layout.kubeconfig("controller-manager"), own=True),
            *_serving(layout, "controller-manager", layout.ports.controller_manager),
            f"--service-account-private-key-file={layout.key('service-accounts')}",
            f"--root-ca-file={layout.certificate('ca')}",
            "--use-service-account-credentials",
            f"--cluster-signing-cert-file={layout.certificate('ca')}",
            f"--cluster-signing-key-file={layout.key('ca')}",
            "--leader-elect=false",
            "--allocate-node-cidrs=false",
            f"--cluster-cidr={POD_RANGE}",
            # The usual 15 s would be as many seconds of waiting in a test.
            "--horizontal-pod-autoscaler-sync-period=3s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ),
    )


def scheduler(layout: Layout) -> Daemon:
    """The scheduler."""
    return Daemon(
        name="kube-scheduler",
        health=f"https://{LOOPBACK}:{layout.ports.scheduler}/healthz",
        command=(
            str(layout.programs["kube-scheduler"]),
            f"--config={layout.configuration / SCHEDULER}",
            *_kubeconfigs(layout.kubeconfig("scheduler"), own=False),
            *_serving(layout, "scheduler", layout.ports.scheduler),
        ),
    )


def containerd(layout: Layout) -> Daemon:
    """The container runtime, Debian's; ask it with `ctr`."""
    return Daemon(
        name="containerd",
        health=None,
        command=(str(CONTAINERD_PROGRAM), f"--config={layout.configuration / CONTAINERD}"),
    )


def kubelet(layout: Layout) -> Daemon:
    """The node agent."""
    return Daemon(
        name="kubelet",
        health=f"http://{LOOPBACK}:{layout.ports.kubelet_health}/healthz",
        command=(
            str(layout.programs["kubelet"]),
            f"--config={layout.configuration / KUBELET}",
            f"--kubeconfig={layout.kubeconfig('kubelet')}",
            f"--node-ip={layout.address}",
            f"--hostname-override={layout.node}",
        ),
    )


def kube_proxy(layout: Layout) -> Daemon:
    """Services by iptables."""
    return Daemon(
        name="kube-proxy",
        health=f"http://{LOOPBACK}:{layout.ports.proxy_health}/healthz",
        command=(str(layout.programs["kube-proxy"]), f"--config={layout.configuration / KUBE_PROXY}"),
    )


def coredns(layout: Layout) -> Daemon:
    """Names of services, on the node's address."""
    return Daemon(
        name="coredns",
        health=f"http://{LOOPBACK}:{layout.ports.dns_ready}/ready",
        command=(str(layout.programs["coredns"]), f"-conf={layout.configuration / COREFILE}"),
    )


def kwok(layout: Layout, stages: Path) -> Daemon:
    """Fake nodes: those with the annotation `FAKE_NODE_ANNOTATION`, beside the real one.

    Args:
        layout: the cluster.
        stages: file with Stage objects; kwok has none built in.
    """
    return Daemon(
        name="kwok",
        health=f"http://{LOOPBACK}:{layout.ports.kwok}/healthz",
        command=(
            str(layout.programs["kwok"]),
            f"--kubeconfig={layout.kubeconfig('kwok')}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}",
            f"--cidr={FAKE_POD_RANGE}",
            f"--node-ip={NODE_ADDRESS}",
            f"--server-address={LOOPBACK}:{layout.ports.kwok}",
            "--node-lease-duration-seconds=200",
            f"--config={stages}",
        ),
    )


def _kubeconfigs(path: Path, *, own: bool) -> tuple[str, ...]:
    names = ("authentication-kubeconfig", "authorization-kubeconfig", *(("kubeconfig",) if own else ()))
    return tuple(f"--{name}={path}" for name in names)


def _serving(layout: Layout, identity: str, port: int) -> tuple[str, ...]:
    return (
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={layout.certificate(identity)}",
        f"--tls-private-key-file={layout.key(identity)}",
    )
