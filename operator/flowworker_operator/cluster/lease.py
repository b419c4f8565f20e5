"""What a Lease says and when it may be taken: pure, and by the reader's own clock alone.

Clocks of different machines are never compared. A candidate measures for how long the lease has not changed, on a clock
of its own; the times written in it are for people.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from flowworker_operator.cluster.resources import LEASES, Object

RELEASED = 1
"""Seconds that a released lease claims to last; a reader that ignores the missing holder waits no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds; the defaults are those of Kubernetes' own components."""

    lease: int = 15
    """Others take over when the lease has not changed for so long."""
    deadline: float = 10.0
    """The holder stops to act when its last renewal began so long ago."""
    retry: float = 2.0
    """Between two attempts."""

    def __post_init__(self) -> None:
        if not self.lease > self.deadline > 2 * self.retry > 0:
            raise ValueError(f"a lease must last longer than its deadline, and that than two retries: {self}")

    @property
    def attempt(self) -> float:
        """How long one attempt may take: a hanging one must leave time for another."""
        return self.deadline / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One state of a Lease."""

    holder: str
    """Empty when the lease is free."""
    lasts: int
    transitions: int
    acquired_at: str
    renewed_at: str

    @classmethod
    def of(cls, lease: Object, timing: Timing) -> Self:
        """Read a Lease, whichever client has written it."""
        spec: Object = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            lasts=spec.get("leaseDurationSeconds") or timing.lease,
            transitions=spec.get("leaseTransitions") or 0,
            acquired_at=spec.get("acquireTime") or "",
            renewed_at=spec.get("renewTime") or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A record, and the tick at which it was first seen."""

    record: Record
    since: float


def sighted(record: Record, before: Sighting | None, now: float) -> Sighting:
    """The sighting of a record just read: a record that has not changed keeps its age."""
    if before is not None and before.record == record:
        return before
    return Sighting(record=record, since=now)


def wait_for(sighting: Sighting | None, me: str, now: float) -> float:
    """Seconds until the lease may be taken; 0 if that is now, or if it is ours.

    The last sighting counts even if the Lease has been deleted since: its holder does not know yet.
    """
    if sighting is None or sighting.record.holder in {"", me}:
        return 0.0
    return max(0.0, sighting.since + sighting.record.lasts - now)


def claimed(before: Record | None, me: str, at: datetime, timing: Timing) -> Object:
    """The spec that makes or keeps the lease ours."""
    spec: Object = {"holderIdentity": me, "leaseDurationSeconds": timing.lease, "renewTime": _stamp(at)}
    if before is not None and before.holder == me:
        return {**spec, "acquireTime": before.acquired_at, "leaseTransitions": before.transitions}
    transitions = 0 if before is None else before.transitions + 1
    return {**spec, "acquireTime": _stamp(at), "leaseTransitions": transitions}


def released(at: datetime) -> Object:
    """The spec that gives the lease up."""
    return {"holderIdentity": "", "leaseDurationSeconds": RELEASED, "renewTime": _stamp(at)}


def new_lease(namespace: str, name: str, spec: Object) -> Object:
    """The manifest of a Lease."""
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
