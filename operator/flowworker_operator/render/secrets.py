"""Connection strings: mounted as files, so that they show up in no process list and a rotated one needs no new pod."""

from dataclasses import dataclass
from typing import Any

from flowworker_operator.api.spec import SecretRef

READABLE = 0o444
"""Containers run as users we do not know, and the pod is theirs alone."""
FILE = "uri"


@dataclass(frozen=True, slots=True)
class SecretMount:
    """One connection string in a pod."""

    name: str
    """Of the volume."""
    directory: str

    @property
    def path(self) -> str:
        """The file with the connection string."""
        return f"{self.directory}/{FILE}"

    def volume(self, secret: SecretRef) -> dict[str, Any]:
        """The volume with one key of a Secret."""
        source = {
            "secretName": secret.name,
            "defaultMode": READABLE,
            "items": [{"key": secret.key, "path": FILE}],
        }
        return {"name": self.name, "secret": source}

    def mount(self) -> dict[str, Any]:
        """The mount; the whole directory, because a mounted file would not follow a rotation."""
        return {"name": self.name, "mountPath": self.directory, "readOnly": True}


DATABASE = SecretMount("flowworker-database", "/var/run/flowworker/database")
DIRECT = SecretMount("flowworker-direct-database", "/var/run/flowworker/direct-database")
OWNER = SecretMount("flowworker-owner-database", "/var/run/flowworker/owner-database")
