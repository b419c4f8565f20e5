"""Secrets in pods: mounted as files, so that they show up in no process list and a rotated one needs no new pod."""

from dataclasses import dataclass
from typing import Any

from flowworker_operator.api.spec import CertificatesRef, SecretRef

READABLE = 0o444
"""Containers run as users we do not know, and the pod is theirs alone."""


@dataclass(frozen=True, slots=True)
class SecretMount:
    """One key of a Secret in a pod."""

    name: str
    """Of the volume."""
    directory: str
    file: str = "uri"

    @property
    def path(self) -> str:
        """Of the file."""
        return f"{self.directory}/{self.file}"

    def volume(self, secret: SecretRef | CertificatesRef) -> dict[str, Any]:
        """The volume with one key of a Secret."""
        source = {
            "secretName": secret.name,
            "defaultMode": READABLE,
            "items": [{"key": secret.key, "path": self.file}],
        }
        return {"name": self.name, "secret": source}

    def mount(self) -> dict[str, Any]:
        """The mount; the whole directory, because a mounted file would not follow a rotation."""
        return {"name": self.name, "mountPath": self.directory, "readOnly": True}


DATABASE = SecretMount("flowworker-database", "/var/run/flowworker/database")
DIRECT = SecretMount("flowworker-direct-database", "/var/run/flowworker/direct-database")
OWNER = SecretMount("flowworker-owner-database", "/var/run/flowworker/owner-database")
AUTHORITY = SecretMount("flowworker-database-ca", "/var/run/flowworker/database-ca", "ca.crt")
