"""FlowWorkers that take from one queue of one database: the oldest one owns it.

Mostly both serve the same. A flow and a queue of jobs of one name share the queue too, and then the workers of jobs
would archive the messages of the flow's tasks.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import islice, takewhile
from typing import TypeAlias

from flowworker_operator.domain.snapshot import Claim

MOST_COMPARED = 20
"""Older FlowWorkers whose database calls itself like one's own and has to prove that it is. There is one as long as a
namespace holds no copies of one server: these call themselves like the original."""

Age: TypeAlias = tuple[datetime, str]


class _Unread(Enum):
    """Groups of those of which no database is known yet."""

    ALL = auto()
    UNREAD = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a FlowWorker takes its work from."""

    queue: str
    connection: Hashable | None = None
    """Equal for those that use one connection; None where the connection string cannot be used."""
    database: str | None = None
    """What the server calls itself; None before it was read."""


class Contenders:
    """FlowWorkers by queue and database: finds those older than one without a look at all the others."""

    def __init__(self) -> None:
        self._places: dict[Claim, Place] = {}
        self._groups: defaultdict[Hashable, list[Claim]] = defaultdict(list)
        """Of one namespace and queue, those with something in common; the oldest first."""
        self._namespaces: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """Of those with one queue and one name of a database."""

    def put(self, claim: Claim, place: Place) -> None:
        """Note where a FlowWorker takes its work from, instead of what was noted before."""
        if self._places.get(claim) == place:
            return
        self.drop(claim)
        self._places[claim] = place
        for group in _groups(claim, place):
            insort(self._groups[group], claim, key=age)
        if place.database is not None:
            self._namespaces[place.queue, place.database][claim.namespace] += 1

    def drop(self, claim: Claim) -> None:
        """A FlowWorker takes no work any more."""
        place = self._places.pop(claim, None)
        if place is None:
            return
        for group in _groups(claim, place):
            members = self._groups[group]
            del members[bisect_left(members, age(claim), key=age)]
            if not members:
                del self._groups[group]
        if place.database is not None:
            elsewhere = self._namespaces[place.queue, place.database]
            elsewhere[claim.namespace] -= 1
            if not elsewhere[claim.namespace]:
                del elsewhere[claim.namespace]
            if not elsewhere:
                del self._namespaces[place.queue, place.database]

    def older(self, claim: Claim) -> Iterator[Claim]:
        """Older FlowWorkers of its namespace that may take from the same queue of the same database.

        The oldest one with its connection comes first, which needs no proof; then those whose database calls itself
        the same, the oldest first.
        """
        place = self._places.get(claim)
        if place is None or place.connection is None:
            return
        yield from islice(self._older(claim, place.connection), 1)
        if place.database is not None:
            yield from islice(self._older(claim, place.database), MOST_COMPARED)

    def may_be_older(self, claim: Claim) -> bool:
        """Whether an older FlowWorker of its namespace and queue may turn out to have the same database."""
        place = self._places.get(claim)
        if place is None or place.connection is None:
            return False
        unread = _Unread.ALL if place.database is None else _Unread.UNREAD
        return any(self._older(claim, unread))

    def elsewhere(self, claim: Claim) -> bool:
        """Whether a FlowWorker of another namespace has this queue and a database that calls itself the same."""
        place = self._places.get(claim)
        if place is None or place.database is None:
            return False
        return len(self._namespaces[place.queue, place.database]) > 1

    def _older(self, claim: Claim, common: Hashable) -> Iterator[Claim]:
        members = self._groups.get((claim.namespace, self._places[claim].queue, common), ())
        return takewhile(lambda one: age(one) < age(claim), members)


def age(claim: Claim) -> Age:
    """What decides who is older; equal times are decided by uid, so that every operator gives the same answer."""
    return claim.created_at, claim.uid


def owner(claim: Claim, rivals: Iterable[Claim]) -> Claim:
    """Who may run workers."""
    return min((claim, *rivals), key=age)


def contention(claim: Claim, owner: Claim) -> str:
    """Why a FlowWorker may run no workers while another one does."""
    runner = f"the older FlowWorker {owner.namespace}/{owner.name}"
    if (claim.kind, claim.slug) == (owner.kind, owner.slug):
        return f"{claim.work} of this database is run by {runner}"
    return (
        f"{claim.work} has the queue of {owner.work}, which is run in this database by {runner}; each would take the "
        "other's messages: give one of them another name"
    )


def _groups(claim: Claim, place: Place) -> Iterator[Hashable]:
    if place.connection is None:
        return
    common: tuple[Hashable, ...] = (_Unread.ALL, place.connection, place.database or _Unread.UNREAD)
    for one in common:
        yield claim.namespace, place.queue, one
