"""Finds out whether this installation serves a FlowWorker, and notifies the others (rules: `domain.rivalry`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from flowworker_operator.api.status import Installation
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Conflict, NotFound
from flowworker_operator.cluster.events import EventRecorder
from flowworker_operator.cluster.resources import FLOWWORKERS, Object
from flowworker_operator.database import Key
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.rivalry import ASKED_AGAIN_AFTER, Asked, Names, Stance, stance
from flowworker_operator.gather import claim_of
from flowworker_operator.store import Store, key_of

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rival:
    who: Installation
    seen_at: float


@dataclass(slots=True, kw_only=True)
class _Dealings:
    """What has passed between installations about one FlowWorker."""

    uid: str
    asked: Asked | None = None
    """Our last challenge."""
    seen: _Rival | None = None
    """Which other one has challenged us last."""


def _names(flowworker: Object) -> Names:
    """Who serves a FlowWorker and who challenges it, by its status; no names where that cannot be read."""
    nothing: Object = {}
    status = flowworker.get("status", nothing)
    try:
        return Names.model_validate({name: status.get(name) for name in ("servedBy", "challengedBy")})
    except ValidationError:
        return Names()


class Rivals:
    """Speaks for one installation."""

    def __init__(
        self,
        *,
        me: Installation,
        cluster: Cluster,
        store: Store,
        recorder: EventRecorder,
        may_write: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._me = me
        self._cluster = cluster
        self._store = store
        self._recorder = recorder
        self._may_write = may_write
        self._clock = clock
        self._dealings: dict[Key, _Dealings] = {}
        self._nameless_since: float | None = None
        """The CRD is older than this operator and keeps no name: then there is nothing to go by, for a while."""

    def seen(self, flowworker: Object) -> str | None:
        """A message about another installation that wants to serve a FlowWorker; None when none asked recently."""
        rival = self._dealings_about(flowworker).seen
        if rival is None or self._clock() - rival.seen_at > 2 * ASKED_AGAIN_AFTER:
            return None
        return (
            f"another installation of the operator ({rival.who}) looks after this namespace too and stands back; "
            "give each namespace to one"
        )

    async def settle(self, flowworker: Object) -> Stance | None:
        """What was found out, once it was written down where others see it; None to look again."""
        metadata, names = flowworker["metadata"], _names(flowworker)
        generation, now, dealings = metadata["generation"], self._clock(), self._dealings_about(flowworker)
        found = stance(names, self._me, dealings.asked, generation=generation, tick=now)
        match found:
            case Stance.SERVE | Stance.STAND_BACK:
                return found
            case Stance.CLAIM:
                return await self._claim(flowworker)
            case Stance.ANSWER:
                assert names.challenged_by is not None
                dealings.seen = _Rival(who=names.challenged_by, seen_at=now)
                written = await self._written(flowworker, {"challengedBy": None})
                return None if written is None else Stance.SERVE
            case Stance.CHALLENGE:
                dealings.asked = Asked(at=now, generation=generation)
                self._announce(flowworker, names)
                written = await self._written(flowworker, {"challengedBy": self._named()})
                return None if written is None else Stance.STAND_BACK

    def forget(self, key: Key) -> None:
        """A FlowWorker is gone."""
        self._dealings.pop(key, None)

    def _dealings_about(self, flowworker: Object) -> _Dealings:
        key, uid = key_of(flowworker), flowworker["metadata"]["uid"]
        known = self._dealings.get(key)
        if known is None or known.uid != uid:
            known = self._dealings[key] = _Dealings(uid=uid)
        return known

    async def _claim(self, flowworker: Object) -> Stance | None:
        if self._nameless_since is not None and self._clock() - self._nameless_since < ASKED_AGAIN_AFTER:
            return Stance.SERVE
        written = await self._written(flowworker, {"servedBy": self._named(), "challengedBy": None})
        if written is None:
            return None
        self._nameless_since = None if "servedBy" in written.get("status", {}) else self._clock()
        return Stance.SERVE

    def _named(self) -> Mapping[str, Any]:
        return self._me.model_dump(by_alias=True)

    def _announce(self, flowworker: Object, names: Names) -> None:
        message = f"{self._me} stands back: {names.served_by} serves this FlowWorker; give each namespace to one"
        claim = claim_of(flowworker)
        self._recorder.record(claim, Event(type="Warning", reason="StandsBack", message=message))
        logger.warning("another installation serves it", namespace=claim.namespace, flowworker=claim.name, why=message)

    async def _written(self, flowworker: Object, patch: Mapping[str, Any]) -> Object | None:
        """Write into the status, unless it has changed since it was looked at."""
        key, version = key_of(flowworker), flowworker["metadata"]["resourceVersion"]
        if not self._may_write():
            return None
        try:
            written = await self._cluster.patch(
                FLOWWORKERS, key.namespace, key.name, {"status": patch}, resource_version=version, subresource="status"
            )
        except (Conflict, NotFound):
            live = await self._cluster.get(FLOWWORKERS, key.namespace, key.name)
            if live is not None:
                self._store.put(FLOWWORKERS, live)
            return None
        self._store.put(FLOWWORKERS, written)
        return written
