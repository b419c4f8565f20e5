"""Where everything of one cluster lies: addresses, ports, folders and programs.

Two clusters are made from it. The control-plane tier runs on loopback with free ports, so any number of them can run
side by side without root. The node runs in network namespaces of its own, where the usual ports are free.
"""

import json
import random
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
NODE_ADDRESS = "198.18.0.1"
NODE_NAME = "node-0"
POD_RANGE = "198.18.64.0/20"
SERVICE_RANGE = "198.19.0.0/16"
DOMAIN = "cluster.local"

LAYOUT_FILE = "layout.json"

FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below the ports that Linux gives to outgoing connections: none of those can take the port of a stopped daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of the daemons; the defaults are the usual ones."""

    api: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380
    etcd_health: int = 2381
    controller_manager: int = 10257
    scheduler: int = 10259
    kubelet_health: int = 10248
    proxy_health: int = 10256
    proxy_metrics: int = 10249
    dns_health: int = 8080
    dns_ready: int = 8181
    kwok: int = 10247


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One cluster. Folders are made by who starts it; nothing outside `state` is written by these daemons."""

    state: Path
    programs: Mapping[str, Path]
    """Our binaries by name, as `binaries.build` returns them."""
    address: str = LOOPBACK
    """Where the API server is reached, and the node's address where there is a node."""
    node: str = NODE_NAME
    ports: Ports = field(default_factory=Ports)

    @classmethod
    def load(cls, state: Path) -> Self:
        """The layout that was saved in a state folder."""
        document = json.loads((state / LAYOUT_FILE).read_text())
        return cls(
            state=state,
            programs={name: Path(path) for name, path in document["programs"].items()},
            address=document["address"],
            node=document["node"],
            ports=Ports(**document["ports"]),
        )

    def save(self) -> None:
        """Write it into the state folder, for other processes."""
        document = {
            "programs": {name: str(path) for name, path in self.programs.items()},
            "address": self.address,
            "node": self.node,
            "ports": asdict(self.ports),
        }
        (self.state / LAYOUT_FILE).write_text(json.dumps(document, indent=1))

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def configuration(self) -> Path:
        """Configuration files and kubeconfigs."""
        return self.state / "configuration"

    @property
    def logs(self) -> Path:
        """One log for each daemon, and the audit log."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Sockets."""
        return self.state / "run"

    @property
    def audit_log(self) -> Path:
        """One JSON object per request that the API server answered."""
        return self.logs / "audit.log"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.ports.api}"

    @property
    def first_service(self) -> str:
        """Address of the service `kubernetes`."""
        return str(ip_network(SERVICE_RANGE)[1])

    @property
    def dns_service(self) -> str:
        """Address of the service `kube-dns`."""
        return str(ip_network(SERVICE_RANGE)[10])

    def kubeconfig(self, identity: str) -> Path:
        """Kubeconfig of one of the identities of `certificates`."""
        return self.configuration / f"{identity}.kubeconfig"

    def certificate(self, identity: str) -> Path:
        """Certificate of an identity."""
        return self.pki / f"{identity}.crt"

    def key(self, identity: str) -> Path:
        """Private key of an identity."""
        return self.pki / f"{identity}.key"

    def log(self, daemon: str) -> Path:
        """What a daemon writes to its standard output and error."""
        return self.logs / f"{daemon}.log"


def control_group(state: Path) -> str:
    """Name of a node's group: one for each state folder, since control groups are in no namespace that we use."""
    return f"flowworker-{sha256(str(state).encode()).hexdigest()[:8]}"


def free_ports(rng: random.Random) -> Ports:
    """Ports for a control plane on loopback that no process listens on."""
    chosen: set[int] = set()
    while len(chosen) < 6:
        port = rng.randrange(FIRST_PORT, LAST_PORT)
        if _is_free(port):
            chosen.add(port)
    api, etcd, peer, health, manager, scheduler = chosen
    return Ports(
        api=api, etcd=etcd, etcd_peer=peer, etcd_health=health, controller_manager=manager, scheduler=scheduler
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
