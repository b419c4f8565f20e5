"""Throw-away certificates of one cluster: two authorities, one certificate per daemon, valid for a day.

etcd has an authority of its own: what may talk to the API server may not talk to its database.
"""

import base64
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from testkit.cluster.layout import DOMAIN, LOOPBACK, Layout

BACKDATED = timedelta(hours=1)
"""The clock of a machine that was suspended may jump back."""
VALID_FOR = timedelta(hours=24)

ADMIN = "admin"
MASTERS = "system:masters"
API_SERVER = "kube-apiserver"
API_SERVER_TO_KUBELET = "e2e-apiserver"
"""User that the API server is at the kubelet; the node's start binds it to `system:kubelet-api-admin`."""

AuthorityName = Literal["ca", "etcd-ca"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The subject of a certificate, and the authority that signs it."""

    name: str
    """Of its files."""
    user: str
    """Common name: the user that the API server sees."""
    group: str | None = None
    """Organization: the group that the API server sees."""
    hosts: tuple[str, ...] = ()
    """Names and addresses it may serve under; none for a pure client."""
    authority: AuthorityName = "ca"
    has_kubeconfig: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str, now: datetime) -> Self:
        """A new one, signed by itself."""
        key = _new_key()
        subject = _subject(f"e2e-{name}", None)
        builder = (
            _builder(subject, subject, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, layout: Layout, name: AuthorityName) -> Self:
        """The one that `write_identities` has written."""
        key = serialization.load_pem_private_key(layout.key(name).read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key, x509.load_pem_x509_certificate(layout.certificate(name).read_bytes()))

    @property
    def credential(self) -> Credential:
        """Its own certificate and key."""
        return Credential(certificate=_pem(self.certificate), key=_key_pem(self.key))

    def issue(self, identity: Identity, now: datetime) -> Credential:
        """A certificate for an identity, with a new key."""
        key = _new_key()
        builder = (
            _builder(_subject(identity.user, identity.group), self.certificate.subject, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(identity)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if identity.hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in identity.hosts])
            builder = builder.add_extension(names, critical=False)
        return Credential(certificate=_pem(builder.sign(self.key, hashes.SHA256())), key=_key_pem(key))


def control_plane_identities(layout: Layout) -> tuple[Identity, ...]:
    """The identities that etcd, API server, controller manager and scheduler need, and the harness as admin."""
    local = ("localhost", LOOPBACK)
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    return (
        Identity(name="etcd", user="etcd", hosts=local, authority="etcd-ca"),
        Identity(name="apiserver-etcd", user=API_SERVER, authority="etcd-ca"),
        Identity(name="apiserver", user=API_SERVER, hosts=(*service, *local, layout.address, layout.first_service)),
        Identity(name="apiserver-kubelet", user=API_SERVER_TO_KUBELET),
        Identity(name=ADMIN, user="e2e-admin", group=MASTERS, has_kubeconfig=True),
        Identity(name="controller-manager", user="system:kube-controller-manager", hosts=local, has_kubeconfig=True),
        Identity(name="scheduler", user="system:kube-scheduler", hosts=local, has_kubeconfig=True),
    )


def node_identities(layout: Layout) -> tuple[Identity, ...]:
    """The identities of the control plane, and those of the other programs on a node."""
    return (
        *control_plane_identities(layout),
        Identity(name="kubelet", user=f"system:node:{layout.node}", group="system:nodes", has_kubeconfig=True),
        Identity(name="kubelet-server", user=layout.node, hosts=(layout.node, layout.address)),
        Identity(name="kube-proxy", user="system:kube-proxy", has_kubeconfig=True),
        Identity(name="coredns", user="e2e-coredns", has_kubeconfig=True),
        Identity(name="kwok", user="e2e-kwok", has_kubeconfig=True),
    )


def write_identities(layout: Layout, identities: Iterable[Identity], now: datetime) -> None:
    """Write authorities, certificates, keys (0600), kubeconfigs and the pair that signs service account tokens."""
    layout.pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    layout.configuration.mkdir(parents=True, exist_ok=True)
    authorities: dict[AuthorityName, Authority] = {
        "ca": Authority.create("ca", now),
        "etcd-ca": Authority.create("etcd-ca", now),
    }
    for name, authority in authorities.items():
        _write_credential(layout, name, authority.credential)
    for identity in identities:
        credential = authorities[identity.authority].issue(identity, now)
        _write_credential(layout, identity.name, credential)
        if identity.has_kubeconfig:
            write_private(layout.kubeconfig(identity.name), kubeconfig(layout, identity.user, credential))
    _write_token_keys(layout)


def kubeconfig(layout: Layout, user: str, credential: Credential) -> bytes:
    """A kubeconfig with everything inside it."""
    cluster = {
        "server": layout.server,
        "certificate-authority-data": _base64(layout.certificate("ca").read_bytes()),
    }
    secrets = {
        "client-certificate-data": _base64(credential.certificate),
        "client-key-data": _base64(credential.key),
    }
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": cluster}],
        "users": [{"name": user, "user": secrets}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
    }
    return json.dumps(document, indent=1).encode()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may ever read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _write_credential(layout: Layout, name: str, credential: Credential) -> None:
    layout.certificate(name).write_bytes(credential.certificate)
    write_private(layout.key(name), credential.key)


def _write_token_keys(layout: Layout) -> None:
    key = _new_key()
    write_private(layout.key("service-accounts"), _key_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (layout.pki / "service-accounts.pub").write_bytes(public)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
    )


def _subject(user: str, group: str | None) -> x509.Name:
    organization = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(identity: Identity) -> list[x509.ObjectIdentifier]:
    serves = [ExtendedKeyUsageOID.SERVER_AUTH] if identity.hosts else []
    return [*serves, ExtendedKeyUsageOID.CLIENT_AUTH]


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
