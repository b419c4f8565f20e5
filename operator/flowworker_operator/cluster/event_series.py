"""An event of a FlowWorker as an object of Kubernetes: one object for the same words, with a count."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from flowworker_operator.api.model import API_VERSION, KIND
from flowworker_operator.cluster.resources import EVENTS, Object
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Claim
from flowworker_operator.domain.words import printable

COMPONENT = "flowworker-operator"

LONGEST_MESSAGE = 1024
"""Characters; newer versions of the API allow no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSeries:
    """An event that happened, perhaps several times since it was last written."""

    claim: Claim
    event: Event
    count: int
    first: datetime
    last: datetime

    @property
    def name(self) -> str:
        """Of the object. Equal words give an equal name, so that a restarted operator goes on counting."""
        words = "\0".join((self.claim.uid, self.event.type, self.event.reason, self.event.message))
        return f"{self.claim.name}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the object."""
        return self.claim.namespace, self.name

    def manifest(self, instance: str) -> Object:
        """The object of the first series; `instance` is the pod that reports it."""
        claim, event = self.claim, self.event
        involved = {"namespace": claim.namespace, "name": claim.name, "uid": claim.uid}
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": claim.namespace, "name": self.name},
            "involvedObject": {"apiVersion": API_VERSION, "kind": KIND, **involved},
            "type": event.type,
            "reason": event.reason,
            "message": printable(event.message[:LONGEST_MESSAGE]),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": instance,
            "count": self.count,
            "firstTimestamp": _stamp(self.first),
            "lastTimestamp": _stamp(self.last),
        }

    def repetition(self, before: int) -> Object:
        """The patch of an object that has counted so far."""
        return {"count": before + self.count, "lastTimestamp": _stamp(self.last)}


def merged(earlier: EventSeries | None, later: EventSeries) -> EventSeries:
    """Both as one; their words are equal."""
    if earlier is None:
        return later
    return replace(later, count=earlier.count + later.count, first=earlier.first)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
