"""What the daemons of a cluster are given: ports, certificates, kubeconfigs and files."""

import json
import random
import socket
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from testkit.cluster import daemons
from testkit.cluster.api import Api
from testkit.cluster.certificates import Authority, node_identities, write_identities
from testkit.cluster.configuration import control_plane_files, node_files, write_files
from testkit.cluster.layout import FIRST_PORT, LAST_PORT, LOOPBACK, NODE_ADDRESS, Layout, Ports, free_ports
from testkit.cluster.programs import NODE

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A node whose identities and files are written."""
    programs = {name: Path("/programs") / name for name in NODE}
    layout = Layout(state=tmp_path / "state", programs=programs, address=NODE_ADDRESS)
    write_identities(layout, node_identities(layout), NOW)
    write_files(layout, {**control_plane_files(layout, b"x" * 32), **node_files(layout, open_files=1024)})
    return layout


def test_ports_are_free_and_no_outgoing_connection_can_take_them() -> None:
    ports = free_ports(random.Random(1))
    chosen = set(chosen_in(ports))
    assert len(chosen) == 6
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(FIRST_PORT <= port < min(LAST_PORT, lowest_outgoing) for port in chosen)


def test_a_port_that_is_taken_is_not_chosen() -> None:
    taken = free_ports(random.Random(1)).api
    with socket.create_server((LOOPBACK, taken)):
        assert taken not in chosen_in(free_ports(random.Random(1)))


def test_a_layout_can_be_handed_on(layout: Layout) -> None:
    layout.save()
    assert Layout.load(layout.state) == layout


def test_keys_and_kubeconfigs_are_private(layout: Layout) -> None:
    private = [path for path in layout.state.rglob("*") if path.suffix in {".key", ".kubeconfig", ".json"}]
    assert len(private) > 20
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_certificates_are_valid_for_a_day_and_a_clock_that_jumps_back(layout: Layout) -> None:
    certificate = x509.load_pem_x509_certificate(layout.certificate("apiserver").read_bytes())
    assert certificate.not_valid_before_utc < NOW - timedelta(minutes=30)
    assert certificate.not_valid_after_utc == NOW + timedelta(hours=24)


def test_the_kubelet_is_a_node_and_not_an_admin(layout: Layout) -> None:
    subject = x509.load_pem_x509_certificate(layout.certificate("kubelet").read_bytes()).subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:node-0"]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]


def test_the_api_server_may_be_called_by_each_of_its_names(layout: Layout) -> None:
    certificate = x509.load_pem_x509_certificate(layout.certificate("apiserver").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {LOOPBACK, NODE_ADDRESS, layout.first_service}


def test_etcd_trusts_an_authority_of_its_own(layout: Layout) -> None:
    etcd = x509.load_pem_x509_certificate(layout.certificate("apiserver-etcd").read_bytes())
    etcd.verify_directly_issued_by(Authority.load(layout, "etcd-ca").certificate)
    with pytest.raises(ValueError, match="subject does not match"):
        etcd.verify_directly_issued_by(Authority.load(layout, "ca").certificate)


def test_a_kubeconfig_holds_all_it_needs(layout: Layout) -> None:
    for identity in (identity for identity in node_identities(layout) if identity.has_kubeconfig):
        assert Api.from_kubeconfig(layout.kubeconfig(identity.name)).server == f"https://{NODE_ADDRESS}:6443"


def test_every_file_that_a_daemon_is_given_exists(layout: Layout) -> None:
    commands = [
        daemons.etcd(layout, durable=True),
        daemons.api_server(layout),
        daemons.controller_manager(layout),
        daemons.scheduler(layout),
        daemons.kubelet(layout),
        daemons.kube_proxy(layout),
        daemons.coredns(layout),
        daemons.containerd(layout),
    ]
    written = {layout.state / "etcd", layout.audit_log}
    paths = {
        Path(value)
        for daemon in commands
        for _, _, value in (argument.partition("=") for argument in daemon.command[1:])
        if value.startswith(str(layout.state))
    }
    assert len(paths) > 15
    assert [path for path in paths - written if not path.exists()] == []


def test_every_certificate_that_a_file_names_exists(layout: Layout) -> None:
    kubelet = json.loads((layout.configuration / "kubelet.json").read_text())
    named = [kubelet["tlsCertFile"], kubelet["tlsPrivateKeyFile"], kubelet["authentication"]["x509"]["clientCAFile"]]
    assert all(Path(path).exists() for path in [*named, kubelet["resolvConf"]])


def test_only_a_fast_tier_goes_without_fsync(layout: Layout) -> None:
    assert "--unsafe-no-fsync" in daemons.etcd(layout, durable=False).command
    assert "--unsafe-no-fsync" not in daemons.etcd(layout, durable=True).command


def test_on_loopback_no_other_machine_can_reach_the_api_server(layout: Layout) -> None:
    local = Layout(state=layout.state, programs=layout.programs)
    assert f"--bind-address={LOOPBACK}" in daemons.api_server(local).command


def chosen_in(ports: Ports) -> list[int]:
    return [ports.api, ports.etcd, ports.etcd_peer, ports.etcd_health, ports.controller_manager, ports.scheduler]
