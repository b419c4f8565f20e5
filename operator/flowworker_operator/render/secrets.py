"""Secrets in pods: mounted as files, so that they show up in no process list and a rotated one needs no new pod."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from flowworker_operator.api.spec import CERTIFICATE, PRIVATE_KEY, CertificatesRef, ClientCertificateRef, SecretRef

Reference: TypeAlias = SecretRef | CertificatesRef | ClientCertificateRef

READABLE = 0o444
"""Containers run as users we do not know, and the pod is theirs alone."""
READABLE_BY_GROUP = 0o440
"""Of a private key where the pod has a group for its files: libpq refuses a key that everyone may read."""


def keys_of(secret: Reference) -> tuple[str, ...]:
    """The keys of a Secret that are used."""
    return (CERTIFICATE, PRIVATE_KEY) if isinstance(secret, ClientCertificateRef) else (secret.key,)


@dataclass(frozen=True, slots=True)
class SecretMount:
    """The files of a Secret in a pod."""

    name: str
    """Of the volume."""
    directory: str
    file: str = "uri"

    @property
    def path(self) -> str:
        """Of the file, where it is one."""
        return self.path_of(self.file)

    def path_of(self, file: str) -> str:
        """Of a file."""
        return f"{self.directory}/{file}"

    def volume(self, secret: Reference, *, private_to_group: bool) -> dict[str, Any]:
        """The volume with the keys of a Secret that are used.

        Args:
            secret: which Secret.
            private_to_group: the pod's files belong to a group of its own.
        """
        items: list[dict[str, Any]] = [{"key": keys_of(secret)[0], "path": self.file}]
        if isinstance(secret, ClientCertificateRef):
            mode = {"mode": READABLE_BY_GROUP} if private_to_group else {}
            items.append({"key": PRIVATE_KEY, "path": PRIVATE_KEY, **mode})
        return {"name": self.name, "secret": {"secretName": secret.name, "defaultMode": READABLE, "items": items}}

    def mount(self) -> dict[str, Any]:
        """The mount; the whole directory, because a mounted file would not follow a rotation."""
        return {"name": self.name, "mountPath": self.directory, "readOnly": True}


DATABASE = SecretMount("flowworker-database", "/var/run/flowworker/database")
DIRECT = SecretMount("flowworker-direct-database", "/var/run/flowworker/direct-database")
OWNER = SecretMount("flowworker-owner-database", "/var/run/flowworker/owner-database")
AUTHORITY = SecretMount("flowworker-database-ca", "/var/run/flowworker/database-ca", "ca.crt")
CLIENT = SecretMount("flowworker-database-client", "/var/run/flowworker/database-client", CERTIFICATE)
