"""Looks up hosts in threads of its own, so that slow names of one tenant cost no other a thing.

A name may take the system's resolver twenty seconds, and a thread that waits for it cannot be stopped. asyncio looks
names up in a pool of a few threads that everything in the process shares. Here each lookup has a thread of its own for
as long as it takes, shared fairly among namespaces: however many slow hosts a tenant has, there is a thread for the
next one's, also for a host that the first one waits for too.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flowworker_operator.fair_queue import FairQueue

THREADS = 128
"""Lookups at once. A thread that waits costs some 50 KiB."""
MOST_ADDRESSES = 16
"""Addresses of one host that are tried."""
LONGEST_MEMORY = 60.0
"""Seconds for which the answer of a slow lookup is kept: it may come after who asked has given up."""

Lookup = Callable[[str], Sequence[str]]
"""Gives the addresses of a host; may take long; raises OSError."""


def system_lookup(host: str) -> Sequence[str]:
    """Ask the system."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))[:MOST_ADDRESSES]


@dataclass(slots=True, eq=False)
class _Search:
    """One lookup of a host, for all who ask meanwhile."""

    host: str
    answer: "asyncio.Future[Sequence[str]]"
    queued: set[str] = field(default_factory=set[str])
    """Namespaces that wait for a thread for it; it begins with the first that gets one."""
    namespace: str = ""
    """Whose thread it has."""
    waiting: int = 0
    began: float | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: Sequence[str]
    until: float


@dataclass(slots=True, eq=False)
class Resolver:
    """Belongs to the event loop that uses it first."""

    clock: Callable[[], float]
    lookup: Lookup = system_lookup
    threads: int = THREADS
    _searches: dict[str, _Search] = field(default_factory=dict[str, _Search], init=False)
    _queue: FairQueue[str, _Search] = field(init=False)
    _known: dict[str, _Known] = field(default_factory=dict[str, _Known], init=False)
    _purged_at: int = field(default=0, init=False)
    """Answers at which those that are too old are looked for."""

    def __post_init__(self) -> None:
        """All threads are free."""
        self._queue = FairQueue(self.threads)

    async def resolve(self, namespace: str, host: str) -> Sequence[str]:
        """The addresses of a host.

        Args:
            namespace: on whose behalf.
            host: a name or an address.

        Raises:
            OSError: the name is unknown, or cannot be looked up now.
        """
        if is_address(host):
            return [host]
        known = self._known.get(host)
        if known is not None and self.clock() < known.until:
            return known.addresses
        search = self._searches.get(host)
        if search is None:
            search = self._searches[host] = _Search(host, asyncio.get_running_loop().create_future())
        if search.began is None and namespace not in search.queued:
            self._let_wait(namespace, search)
        search.waiting += 1
        try:
            return await asyncio.shield(search.answer)
        finally:
            search.waiting -= 1

    def _let_wait(self, namespace: str, search: _Search) -> None:
        """Let a search wait for a thread of a namespace, also where it waits for one of another already."""
        search.queued.add(namespace)
        self._queue.put(namespace, search)
        # The caller does not wait yet, and a search that no caller waits for is not begun.
        asyncio.get_running_loop().call_soon(self._begin_next)

    def _begin_next(self) -> None:
        while (taken := self._queue.take()) is not None:
            namespace, search = taken
            if search.waiting and search.began is None:
                self._begin(search, namespace)
                continue
            self._queue.release(namespace)
            if search.began is None and not search.answer.done():
                search.answer.cancel()
                del self._searches[search.host]

    def _begin(self, search: _Search, namespace: str) -> None:
        loop = asyncio.get_running_loop()
        search.namespace, search.began = namespace, self.clock()
        thread = threading.Thread(target=self._look_up, args=(loop, search), name="lookup of a host", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            loop.call_soon(self._end, search, OSError(str(error)))  # it lets the next one begin

    def _look_up(self, loop: asyncio.AbstractEventLoop, search: _Search) -> None:
        """In a thread of its own."""
        try:
            result: Sequence[str] | OSError = self.lookup(search.host)
        except OSError as error:
            result = error
        except UnicodeError:
            result = OSError("the name of the host is malformed")
        try:
            loop.call_soon_threadsafe(self._end, search, result)
        except RuntimeError:
            return  # the loop has ended meanwhile

    def _end(self, search: _Search, result: Sequence[str] | OSError) -> None:
        self._queue.release(search.namespace)
        del self._searches[search.host]
        if isinstance(result, OSError):
            if search.waiting:
                search.answer.set_exception(result)
                search.answer.exception()  # it is seen, also where all who waited are being cancelled now
            else:
                search.answer.cancel()
        else:
            self._remember(search, result)
            search.answer.set_result(result)
        self._begin_next()

    def _remember(self, search: _Search, addresses: Sequence[str]) -> None:
        """For as long as the lookup took: one that took ten milliseconds is asked anew each time."""
        now = self.clock()
        took = now - (search.began or now)
        if len(self._known) >= self._purged_at:
            self._known = {host: known for host, known in self._known.items() if now < known.until}
            self._purged_at = 2 * len(self._known) + MOST_ADDRESSES
        self._known[search.host] = _Known(addresses, now + min(took, LONGEST_MEMORY))


def is_address(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
