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
from flowworker_operator.probe.prober import Prober

logger = logging.getLogger(__name__)

AGAIN_AFTER = 30.0
"""Seconds after which a proof that failed is tried again; one that succeeded holds as long as both connections do."""
NUMBERS = 1 << 63


class SameDatabase(Enum):
    """What is known of two connections."""

    SAME = auto()
    DIFFERENT = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class _Claim:
    claimant: Prober
    other: Prober
    database: str
    """As both servers call themselves."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    kinship: SameDatabase
    at: float


@dataclass(slots=True, eq=False)
class SameDatabaseProofs:
    """Proves claims in the background, each by a task of its own."""

    clock: Callable[[], float]
    _verdicts: dict[_Claim, _Verdict] = field(default_factory=dict[_Claim, _Verdict])
    _proofs: "dict[_Claim, asyncio.Task[None]]" = field(default_factory=dict[_Claim, "asyncio.Task[None]"])

    def ask(self, claimant: Prober, other: Prober, database: str, proven: Callable[[], None]) -> SameDatabase:
        """What is known of two connections whose servers call themselves the same.

        Args:
            claimant: the connection of who has the older right.
            other: the connection of who would have to give way.
            database: what both servers call themselves.
            proven: called when more is known.
        """
        if claimant is other:
            return SameDatabase.SAME
        claim = _Claim(claimant, other, database)
        verdict = self._verdicts.get(claim)
        if claim not in self._proofs and (verdict is None or self._may_try_again(verdict)):
            work = self._prove(claim, proven)
            self._proofs[claim] = asyncio.get_running_loop().create_task(work, name="proof of a database")
        return SameDatabase.UNKNOWN if verdict is None else verdict.kinship

    def forget(self, prober: Prober) -> None:
        """A connection is given up."""
        for claim in [one for one in (*self._verdicts, *self._proofs) if prober in (one.claimant, one.other)]:
            self._verdicts.pop(claim, None)
            if (task := self._proofs.get(claim)) is not None:
                task.cancel()

    async def close(self) -> None:
        """End all proofs."""
        while self._proofs:
            tasks = tuple(self._proofs.values())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _may_try_again(self, verdict: _Verdict) -> bool:
        return verdict.kinship is not SameDatabase.SAME and self.clock() - verdict.at > AGAIN_AFTER

    async def _prove(self, claim: _Claim, proven: Callable[[], None]) -> None:
        try:
            kinship = await _judged(claim)
        except asyncio.CancelledError:
            del self._proofs[claim]
            raise
        except Exception as error:  # noqa: BLE001 - whatever one of the two databases does, it is tried again
            logger.debug("cannot tell whether %s and %s are one: %s", claim.claimant.place, claim.other.place, error)
            kinship = SameDatabase.UNKNOWN
        del self._proofs[claim]
        self._verdicts[claim] = _Verdict(kinship, self.clock())
        proven()


async def _judged(claim: _Claim) -> SameDatabase:
    number = secrets.randbelow(NUMBERS)
    await claim.claimant.order(lambda connection: probe.hold_proof(connection, number))
    seen = held = False
    try:
        seen = await claim.other.order(lambda connection: probe.sees_proof(connection, number))
    finally:
        held = await claim.claimant.order(lambda connection: probe.end_proof(connection, number))
    if seen:
        return SameDatabase.SAME
    return SameDatabase.DIFFERENT if held else SameDatabase.UNKNOWN
