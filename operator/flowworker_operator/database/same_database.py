"""Whether two connections lead to one database, proven on it and not believed.

A server may call itself what it likes, another one's database too. So the connection of who claims a flow takes a lock
under a random number, and the connection of who would have to give way looks for it: its own server then
says that the claim is true. A server that lies so harms none but those who have named it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from flowworker.database import probe
from flowworker_operator.database.watcher import DatabaseWatcher

logger = logging.getLogger(__name__)

AGAIN_AFTER = 30.0
"""Seconds after which a proof that failed is tried again; one that succeeded holds as long as both connections do."""
LONGEST_PAUSE = 600.0
"""The same where one was seen again and again to be another database; each pause is twice as long."""
NUMBERS = 1 << 63


class SameDatabase(Enum):
    """What is known of two connections."""

    SAME = auto()
    DIFFERENT = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class _Pair:
    claimant: DatabaseWatcher
    other: DatabaseWatcher


@dataclass(slots=True, eq=False)
class _Proof:
    """What is known of a pair whose servers call themselves the same."""

    database: str
    """What they call themselves."""
    found: SameDatabase = SameDatabase.UNKNOWN
    due: float = float("-inf")
    """When it is tried again."""
    differed: int = 0
    """Times in a row that one was seen to be another database."""
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True, eq=False)
class SameDatabaseProofs:
    """Proves claims in the background, each by a task of its own."""

    clock: Callable[[], float]
    _proofs: dict[_Pair, _Proof] = field(default_factory=dict[_Pair, _Proof])
    _pairs: dict[DatabaseWatcher, set[_Pair]] = field(default_factory=dict[DatabaseWatcher, set[_Pair]])
    """Of each connection."""
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])
    """All that have not ended, those of connections that were given up included."""

    def ask(
        self, claimant: DatabaseWatcher, other: DatabaseWatcher, database: str, proven: Callable[[], None]
    ) -> SameDatabase:
        """What is known of two connections whose servers call themselves the same.

        Args:
            claimant: the connection of who has the older right.
            other: the connection of who would have to give way.
            database: what both servers call themselves.
            proven: called when more is known.
        """
        if claimant is other:
            return SameDatabase.SAME
        proof = self._proof_of(_Pair(claimant, other), database)
        if proof.task is None and proof.found is not SameDatabase.SAME and self.clock() > proof.due:
            work = self._prove(_Pair(claimant, other), proof, proven)
            proof.task = asyncio.get_running_loop().create_task(work, name="proof of a database")
            self._tasks.add(proof.task)
            proof.task.add_done_callback(self._tasks.discard)
        return proof.found

    def forget(self, watcher: DatabaseWatcher) -> None:
        """A connection is given up."""
        for pair in self._pairs.pop(watcher, set()):
            self._pairs.get(pair.other if pair.claimant is watcher else pair.claimant, set()).discard(pair)
            proof = self._proofs.pop(pair)
            if proof.task is not None:
                proof.task.cancel()

    async def close(self) -> None:
        """End all proofs."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    def _proof_of(self, pair: _Pair, database: str) -> _Proof:
        proof = self._proofs.get(pair)
        if proof is None or proof.database != database:
            if proof is not None and proof.task is not None:
                proof.task.cancel()
            # A server that calls itself another thing each time is not asked more often for that.
            due = float("-inf") if proof is None else proof.due
            proof = self._proofs[pair] = _Proof(database, due=due)
            for watcher in (pair.claimant, pair.other):
                self._pairs.setdefault(watcher, set()).add(pair)
        return proof

    async def _prove(self, pair: _Pair, proof: _Proof, proven: Callable[[], None]) -> None:
        try:
            proof.found = await _judged(pair)
        except Exception as error:  # noqa: BLE001 - whatever one of the two databases does, it is tried again
            logger.debug("it is not known whether %s and %s are one: %s", pair.claimant.place, pair.other.place, error)
            proof.found = SameDatabase.UNKNOWN
        finally:
            proof.task = None
        proof.differed = proof.differed + 1 if proof.found is SameDatabase.DIFFERENT else 0
        pause = min(LONGEST_PAUSE, AGAIN_AFTER * 2.0 ** min(max(0, proof.differed - 1), 16))
        proof.due = self.clock() + pause
        proven()


async def _judged(pair: _Pair) -> SameDatabase:
    number = secrets.randbelow(NUMBERS)
    await pair.claimant.order(lambda connection: probe.hold_proof(connection, number))
    seen = held = False
    try:
        seen = await pair.other.order(lambda connection: probe.sees_proof(connection, number))
    finally:
        held = await pair.claimant.order(lambda connection: probe.end_proof(connection, number))
    if seen:
        return SameDatabase.SAME
    return SameDatabase.DIFFERENT if held else SameDatabase.UNKNOWN
