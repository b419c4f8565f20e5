"""Connection strings and certificates from Secrets, read by name: the operator may neither list nor watch them.

Only the first read of a Secret is waited for. What is known is used until a later read, in the background and few at
once, brings something else: a hundred databases that fail, each a reason to look whether its Secret was changed, must
not take the rounds of other FlowWorkers.

A Secret may hold more than connection strings. Only values that FlowWorkers name are kept, and none for longer than
three minutes after the last read. Of other keys not even the names are: who reads a FlowWorker may not read the Secret.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.spec import CERTIFICATE, PRIVATE_KEY, CertificatesRef, ClientCertificateRef, SecretRef
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError, Refused
from flowworker_operator.cluster.resources import SECRETS
from flowworker_operator.database import ClientCertificate, Key
from flowworker_operator.domain.snapshot import Fault

logger = logging.getLogger(__name__)

FRESH_FOR = 60.0
"""Seconds after which a Secret is read again although all is well: so a rotated one is noticed."""
DOUBTED_AFTER = 2.0
"""The same once something is wrong with the Secret or its database; doubles while the Secret stays as it is."""
LONGEST_DOUBT = 16.0
AT_ONCE = 2
"""Reads in the background."""

Place: TypeAlias = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What is kept of a Secret."""

    values: Mapping[str, str | None]
    """In base64, by key; only of keys that were asked for, None where the Secret does not have one."""


Found: TypeAlias = _Content | Refused | None


@dataclass(slots=True)
class _Read:
    at: float
    found: Found
    doubts: int = 0
    """Reads in a row that were for a doubt and found the same."""

    def due(self, *, doubted: bool) -> float:
        """When it should be read again."""
        return self.at + (min(LONGEST_DOUBT, DOUBTED_AFTER * 2.0**self.doubts) if doubted else FRESH_FOR)


class Secrets:
    """Reads Secrets and remembers them for a while. Belongs to the event loop that uses it first."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float], on_change: Callable[[Key], None]) -> None:
        """Know none.

        Args:
            cluster: where they are.
            clock: monotonic seconds.
            on_change: called with the key of each FlowWorker that has asked for a Secret that has changed.
        """
        self._cluster = cluster
        self._clock = clock
        self._on_change = on_change
        self._reads: dict[Place, _Read] = {}
        self._wanted: dict[Place, dict[str, float]] = {}
        """Keys that were asked for lately, and when."""
        self._purging: asyncio.TimerHandle | None = None
        self._asking: dict[Place, set[Key]] = {}
        """Who has asked for what is read now."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def dsn(self, key: Key, reference: SecretRef, *, doubted: bool) -> str | Fault:
        """The connection string, or what is wrong with the Secret.

        Args:
            key: the FlowWorker that asks.
            reference: name and key of a Secret of its namespace.
            doubted: the database refuses what was read last.

        Raises:
            Unavailable: the API server does not answer.
        """
        return await self._text(key, reference.name, reference.key, "a PostgreSQL URI", doubted=doubted)

    async def certificates(self, key: Key, reference: CertificatesRef, *, doubted: bool) -> str | Fault:
        """Certificates in PEM; the same as `dsn` otherwise."""
        return await self._text(key, reference.name, reference.key, "certificates in PEM", doubted=doubted)

    async def client_certificate(
        self, key: Key, reference: ClientCertificateRef, *, doubted: bool
    ) -> ClientCertificate | Fault:
        """A certificate and its key, of one state of the Secret; the same as `dsn` otherwise."""
        self._want((key.namespace, reference.name), PRIVATE_KEY)
        chain = await self._text(key, reference.name, CERTIFICATE, "a certificate in PEM", doubted=doubted)
        private = await self._text(key, reference.name, PRIVATE_KEY, "a private key in PEM", doubted=doubted)
        for one in (chain, private):
            if isinstance(one, Fault):
                return one
        assert isinstance(chain, str)
        assert isinstance(private, str)
        return ClientCertificate(chain=chain, key=private)

    async def close(self) -> None:
        """Read no more, and keep nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._purging is not None:
            self._purging.cancel()
        self._reads.clear()

    def _want(self, place: Place, entry: str) -> None:
        self._wanted.setdefault(place, {})[entry] = self._clock()

    async def _text(self, key: Key, name: str, entry: str, content: str, *, doubted: bool) -> str | Fault:
        place = key.namespace, name
        read = self._reads.get(place)
        self._want(place, entry)
        if read is None or self._is_old(read.at) or _was_not_read(entry, read.found):
            read = await self._first(place, entry)
        text = _value(place, entry, content, read.found)
        doubted = doubted or isinstance(text, Fault)
        if not doubted:
            read.doubts = 0
        if self._clock() >= read.due(doubted=doubted):
            self._read_again(place, key, doubted=doubted)
        return text

    async def _first(self, place: Place, key: str) -> _Read:
        found = await self._ask(place, key)
        self._reads[place] = read = _Read(self._clock(), found)
        if self._purging is None:
            self._purging = asyncio.get_running_loop().call_later(FRESH_FOR, self._purge)
        return read

    def _is_old(self, at: float) -> bool:
        return self._clock() - at >= 2 * FRESH_FOR

    def _purge(self) -> None:
        """Let go of what has not been asked for lately."""
        self._reads = {place: read for place, read in self._reads.items() if not self._is_old(read.at)}
        self._wanted = {
            place: {key: asked for key, asked in keys.items() if not self._is_old(asked)}
            for place, keys in self._wanted.items()
            if place in self._reads
        }
        self._purging = asyncio.get_running_loop().call_later(FRESH_FOR, self._purge) if self._reads else None

    def _read_again(self, place: Place, key: Key, *, doubted: bool) -> None:
        if place in self._asking:
            self._asking[place].add(key)
            return
        self._asking[place] = {key}
        task = asyncio.get_running_loop().create_task(self._compare(place, doubted=doubted), name=f"secret {place}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, place: Place, *, doubted: bool) -> None:
        try:
            async with self._turns:
                found = await self._ask(place)
        except ClusterError as error:
            logger.debug("secret %s/%s cannot be read now: %s", *place, error)
            return
        finally:
            asking = self._asking.pop(place)
        before = self._reads.get(place)
        same = before is not None and _content(before.found) == _content(found)
        doubts = before.doubts + doubted if before is not None and same else 0
        self._reads[place] = _Read(self._clock(), found, doubts)
        if not same:
            for key in asking:
                self._on_change(key)

    async def _ask(self, place: Place, *keys: str) -> Found:
        try:
            found = await self._cluster.get(SECRETS, *place)
        except Refused as error:
            return error
        if found is None:
            return None
        data: Mapping[str, str] = found.get("data") or {}
        return _Content({key: data.get(key) for key in {*keys, *self._wanted.get(place, ())}})


def _was_not_read(key: str, found: Found) -> bool:
    """Whether it was not looked for a key when a Secret was read."""
    return isinstance(found, _Content) and key not in found.values


def _content(found: Found) -> object:
    return str(found) if isinstance(found, Refused) else found


def _value(place: Place, entry: str, content: str, found: Found) -> str | Fault:
    where = "secret " + "/".join(place)
    if isinstance(found, Refused):
        return _fault(f"{where} cannot be read: {found.message}")
    if found is None:
        return _fault(f"{where} does not exist; it must hold {content} under the key {entry}")
    value = found.values[entry]
    if value is None:
        return _fault(f"{where} has no key {entry}; it must hold {content}")
    try:
        text = base64.b64decode(value).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return _fault(f"key {entry} of {where} is no text; it must be {content}")
    return text or _fault(f"key {entry} of {where} is empty; it must be {content}")


def _fault(message: str) -> Fault:
    return Fault(reason=Reason.BAD_SECRET, message=message)
