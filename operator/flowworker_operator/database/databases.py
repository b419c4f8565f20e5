"""The readings of all FlowWorkers: hands every subject to the watcher of its connection, and keeps what they bring."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from flowworker.database import probe
from flowworker.database.connection import Connection
from flowworker.database.faults import translated
from flowworker.database.probe import DrainOrder
from flowworker.errors import DatabaseUnavailableError, UsageError
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import faults
from flowworker_operator.database.client_certificate import ClientCertificate
from flowworker_operator.database.endpoint import Endpoint, parse_endpoint
from flowworker_operator.database.hosts import INWARD, InwardError, KnownHosts
from flowworker_operator.database.interpret import says_the_same
from flowworker_operator.database.model import Key, Reading, Subject
from flowworker_operator.database.same_database import SameDatabase, SameDatabaseProofs
from flowworker_operator.database.watcher import DatabaseWatcher
from flowworker_operator.domain.snapshot import Fault, Loss, WorkerState
from flowworker_operator.domain.words import shown
from flowworker_operator.resolver import Lookup, Resolver, is_address, system_lookup

T = TypeVar("T")
Source: TypeAlias = tuple[str, str | None, ClientCertificate | None]
"""Connection string, certificates of authorities, the client's own."""

NO_HOSTS = KnownHosts()

LONGEST_NAME = 253
"""Characters of a pod's name."""


@dataclass(slots=True)
class _Entry:
    """One FlowWorker's place in the books."""

    source: Source
    """As it was given."""
    watcher: DatabaseWatcher | None
    """None while its connection string cannot be used."""
    endpoint: Endpoint | None
    reading: Reading | None = None
    fault: Fault | None = None


class Databases:
    """Reads databases in the background. Belongs to the event loop that uses it first.

    Example:
        >>> databases = Databases(clock=time.monotonic, on_reading=queue.add)  # doctest: +SKIP
        >>> databases.watch(Subject(key=key, kind="flow", slug="mail", cap=201), dsn)  # doctest: +SKIP
        >>> databases.reading(key)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        on_reading: Callable[[Key], None],
        randomness: Callable[[], float] = random.random,
        lookup: Lookup = system_lookup,
        known: KnownHosts = NO_HOSTS,
    ) -> None:
        """Read nothing yet.

        Args:
            clock: monotonic seconds.
            on_reading: called when a subject's reading or fault has changed in something that matters.
            randomness: numbers from 0 up to 1; spreads ticks and attempts to connect.
            lookup: gives the addresses of a host; called in threads.
            known: hosts of which FlowWorkers show exactly why they cannot be reached, and addresses that may be dialled
                although they are loopback or link-local.
        """
        self._clock = clock
        self._on_reading = on_reading
        self._randomness = randomness
        self._entries: dict[Key, _Entry] = {}
        self._watchers: dict[Endpoint, DatabaseWatcher] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._resolver = Resolver(clock, lookup)
        self._proofs = SameDatabaseProofs(clock)
        self._known = known

    def watch(
        self, subject: Subject, dsn: str, authority: str | None = None, client: ClientCertificate | None = None
    ) -> None:
        """Read a subject from now on; calling it again changes what is read, or where.

        Args:
            subject: what is read.
            dsn: connection string of its database.
            authority: certificates in PEM that vouch for the server.
            client: what is shown to a server that asks for a certificate.
        """
        entry, source = self._entries.get(subject.key), (dsn, authority, client)
        if entry is None or entry.source != source:
            entry = self._move(subject.key, entry, source)
        if entry.watcher is not None:
            entry.watcher.put(subject)

    def forget(self, key: Key) -> None:
        """Read a subject no more; the last one of a connection closes it."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._leave(key, entry)

    def reading(self, key: Key) -> Reading | None:
        """The last answer about a subject; None before the first."""
        entry = self._entries.get(key)
        return None if entry is None else entry.reading

    def fault(self, key: Key) -> Fault | None:
        """Why the last attempt to read a subject failed; None when it succeeded, and before the first."""
        entry = self._entries.get(key)
        return None if entry is None else entry.fault

    def connection(self, key: Key) -> DatabaseWatcher | None:
        """What reads the database of a FlowWorker, equal for those that share it; None where none can."""
        entry = self._entries.get(key)
        return None if entry is None else entry.watcher

    async def drain(self, key: Key, pods: Sequence[tuple[str, float, str]]) -> frozenset[str]:
        """Ask the workers of pods to drain, or renew that.

        Args:
            key: the FlowWorker on whose behalf.
            pods: uid of each pod, seconds until the drain lapses, and the reason.

        Returns:
            Uids of the pods whose drain was not in force before.

        Raises:
            DatabaseUnavailableError: it could not be written now, or may have been.
            MissingRightsError, UnsupportedSchemaError: the role or the schema does not allow it.
            AuthenticationError, UsageError: the database cannot be connected to.
        """
        orders = [DrainOrder(pod_uid=uid, seconds=seconds, reason=reason) for uid, seconds, reason in pods]
        by = probe.asker(key.namespace, key.name)
        if not orders:
            return frozenset()
        new = await self._order(key, "ask workers to drain", lambda link: probe.ask_drain(link, by, orders))
        if new:
            self._watcher(key).look_soon()
        return new

    async def end_drains(self, key: Key, uids: Sequence[str]) -> None:
        """Take back drains of pods that were asked for on behalf of this FlowWorker, and only those.

        Raises:
            FlowWorkerError: as `drain` does.
        """
        if uids:
            by = probe.asker(key.namespace, key.name)
            await self._order(key, "end drains", lambda link: probe.end_drain(link, by, uids))
            self._watcher(key).look_soon()

    async def mark_gone(self, key: Key, gone: Sequence[str], silent: Sequence[str] = ()) -> Sequence[Loss]:
        """Mark workers lost that cannot run any more, so that their tasks are given back at once.

        Args:
            key: the FlowWorker of the pods.
            gone: uids of pods that are gone for sure, with all their workers.
            silent: uids of pods whose container has ended and may have been started again: of these only workers that
                have missed a heartbeat are marked. Ask again for those that had not yet.

        Returns:
            The workers that ended without reporting it.

        Raises:
            FlowWorkerError: as `drain` does.
        """
        if not gone and not silent:
            return ()
        lost = await self._order(key, "mark workers lost", lambda link: probe.mark_gone(link, gone, silent))
        if lost:
            self._watcher(key).look_soon()
        return [
            Loss(pod=shown(one.name, limit=LONGEST_NAME), state=WorkerState(one.state), in_flight=one.in_flight)
            for one in lost
        ]

    def same_database(self, claimant: Key, other: Key) -> SameDatabase:
        """Whether the databases of two FlowWorkers are one, proven on the claimant's behalf.

        A changed answer is published as a change of `other`.

        Args:
            claimant: who has the older right.
            other: who would have to give way.
        """
        one, two = self._entries.get(claimant), self._entries.get(other)
        if one is None or two is None or one.watcher is None or two.watcher is None:
            return SameDatabase.DIFFERENT
        if one.watcher is two.watcher:
            return SameDatabase.SAME
        if one.reading is None or two.reading is None:
            return SameDatabase.UNKNOWN
        if one.reading.database != two.reading.database:
            return SameDatabase.DIFFERENT
        return self._proofs.ask(one.watcher, two.watcher, two.reading.database, partial(self._on_reading, other))

    async def close(self) -> None:
        """Forget everything and close every connection."""
        await self._proofs.close()
        for key in tuple(self._entries):
            self.forget(key)
        while self._ending:
            await asyncio.wait(self._ending)

    async def _order(self, key: Key, purpose: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def speaking(connection: Connection) -> T:
            with translated(purpose):
                return await work(connection)

        return await self._watcher(key).order(speaking)

    def _watcher(self, key: Key) -> DatabaseWatcher:
        entry = self._entries.get(key)
        if entry is None or entry.watcher is None:
            raise DatabaseUnavailableError(f"the database of {key} is not known")
        return entry.watcher

    def _move(self, key: Key, entry: _Entry | None, source: Source) -> _Entry:
        """Put a FlowWorker where its connection string leads; what is known of it stays until something is read."""
        entry = entry or _Entry(source=source, watcher=None, endpoint=None)
        self._entries[key] = entry
        entry.source = source
        try:
            endpoint = parse_endpoint(*source)
            self._check_addresses(endpoint)
        except UsageError as error:
            self._leave(key, entry)
            self._publish(key, faults.fault(Reason.BAD_SECRET, str(error)))
            return entry
        if endpoint != entry.endpoint:
            self._leave(key, entry)
            entry.endpoint, entry.watcher = endpoint, self._watcher_of(key.namespace, endpoint)
        return entry

    def _check_addresses(self, endpoint: Endpoint) -> None:
        """What a connection string says itself needs no attempt, and shows nothing of the network."""
        for host, _ in endpoint.hosts:
            if is_address(host) and not self._known.admits(host):
                raise UsageError(f"the host {host} of the connection string cannot be used: {INWARD}")

    async def _resolve(self, namespace: str, host: str) -> Sequence[str]:
        """The addresses of a host that may be dialled."""
        found = [one for one in await self._resolver.resolve(namespace, host) if self._known.admits(one)]
        if not found:
            raise InwardError(INWARD)
        return found

    def _watcher_of(self, namespace: str, endpoint: Endpoint) -> DatabaseWatcher:
        watcher = self._watchers.get(endpoint)
        if watcher is None:
            watcher = self._watchers[endpoint] = DatabaseWatcher(
                endpoint=endpoint,
                resolve=partial(self._resolve, namespace),
                clock=self._clock,
                randomness=self._randomness,
                publish=self._publish,
                exact=all(host in self._known for host, _ in endpoint.hosts),
            )
            watcher.start()
        return watcher

    def _leave(self, key: Key, entry: _Entry) -> None:
        endpoint, watcher, entry.endpoint, entry.watcher = entry.endpoint, entry.watcher, None, None
        if watcher is None or endpoint is None:
            return
        watcher.drop(key)
        if watcher.idle:
            del self._watchers[endpoint]
            self._proofs.forget(watcher)
            ending = asyncio.get_running_loop().create_task(watcher.stop(), name=f"end of {watcher.place}")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def _publish(self, key: Key, result: Reading | Fault) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        match result:
            case Fault():
                changed, entry.fault = entry.fault != result, result
            case Reading():
                changed = entry.fault is not None or not says_the_same(entry.reading, result)
                entry.reading, entry.fault = result, None
        if changed:
            self._on_reading(key)
