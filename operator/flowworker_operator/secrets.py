"""Connection strings and certificates from Secrets, read by name: the operator may neither list nor watch them."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import CertificatesRef, SecretRef
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Refused
from flowworker_operator.cluster.resources import SECRETS, Object
from flowworker_operator.domain.snapshot import Fault

FRESH_FOR = 60.0
"""Seconds after which a Secret is read again although all is well: so a rotated one is noticed."""
DOUBTED_AFTER = 2.0
"""The same while something is wrong with the Secret or the database refuses it."""


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    secret: Object | None


class Secrets:
    """Reads Secrets and remembers them for a while."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._reads: dict[tuple[str, str], _Read] = {}

    async def dsn(self, namespace: str, reference: SecretRef, *, doubted: bool) -> str | Fault:
        """The connection string, or what is wrong with the Secret.

        Args:
            namespace: of the Secret.
            reference: its name and key.
            doubted: the database refuses what was read last.

        Raises:
            Unavailable: the API server does not answer.
        """
        return await self._text(namespace, reference, "a PostgreSQL URI", doubted=doubted)

    async def certificates(self, namespace: str, reference: CertificatesRef, *, doubted: bool) -> str | Fault:
        """Certificates in PEM; the same as `dsn` otherwise."""
        return await self._text(namespace, reference, "certificates in PEM", doubted=doubted)

    async def _text(
        self, namespace: str, reference: SecretRef | CertificatesRef, content: str, *, doubted: bool
    ) -> str | Fault:
        try:
            secret = await self._secret(namespace, reference.name, DOUBTED_AFTER if doubted else FRESH_FOR)
            found = _value(namespace, reference, content, secret)
            if isinstance(found, Fault) and not doubted:
                secret = await self._secret(namespace, reference.name, DOUBTED_AFTER)
                found = _value(namespace, reference, content, secret)
        except Refused as error:
            return _fault(f"secret {namespace}/{reference.name} cannot be read: {error.message}")
        return found

    async def _secret(self, namespace: str, name: str, fresh_for: float) -> Object | None:
        known, now = self._reads.get((namespace, name)), self._clock()
        if known is not None and now - known.at < fresh_for:
            return known.secret
        secret = await self._cluster.get(SECRETS, namespace, name)
        self._reads = {key: read for key, read in self._reads.items() if now - read.at < 2 * FRESH_FOR}
        self._reads[namespace, name] = _Read(now, secret)
        return secret


def _value(
    namespace: str, reference: SecretRef | CertificatesRef, content: str, secret: Mapping[str, Any] | None
) -> str | Fault:
    where = f"secret {namespace}/{reference.name}"
    if secret is None:
        return _fault(f"{where} does not exist; it must hold {content} under the key {reference.key}")
    data: Mapping[str, str] = secret.get("data") or {}
    if reference.key not in data:
        keys = ", ".join(sorted(data)) or "none"
        return _fault(f"{where} has no key {reference.key}; its keys are: {keys}")
    try:
        text = base64.b64decode(data[reference.key]).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return _fault(f"key {reference.key} of {where} is no text; it must be {content}")
    return text or _fault(f"key {reference.key} of {where} is empty; it must be {content}")


def _fault(message: str) -> Fault:
    return Fault(reason=Reason.BAD_SECRET, message=message)
