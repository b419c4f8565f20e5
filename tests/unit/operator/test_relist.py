"""When a watch counts as blind: every re-list finds what it has kept silent about."""

from collections.abc import Sequence
from typing import Any, cast

from prometheus_client import CollectorRegistry
from tests.unit.operator.objects import live_pod

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.resources import PODS
from flowworker_operator.database import Key
from flowworker_operator.health import BLIND_AFTER
from flowworker_operator.metrics import Metrics
from flowworker_operator.readable_scopes import ReadableScopes
from flowworker_operator.relist import Relister
from flowworker_operator.store import Store


class Pods:
    """A cluster with pods that no watch reports."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.now = 0.0
        self.relister = Relister(
            cluster=cast("Cluster", self),
            store=Store(),
            readable=ReadableScopes((), (PODS,)),
            selectors={PODS: ""},
            metrics=Metrics(CollectorRegistry()),
            every=60.0,
            clock=lambda: self.now,
            random=lambda: 0.5,
            changed=self._ignored,
        )

    async def list(self, *_: object, **__: object) -> Sequence[dict[str, Any]]:
        return [*self.items]

    def change(self) -> None:
        number = len(self.items)
        self.items.append(live_pod(f"pod-{number}", f"uid-{number}"))

    async def relist(self) -> None:
        self.now += 60
        await self.relister.once()

    def _ignored(self, key: Key) -> None:
        pass


async def test_one_change_that_no_watch_delivered_does_not_end_a_process_in_a_quiet_cluster() -> None:
    pods = Pods()
    await pods.relist()
    pods.change()
    await pods.relist()
    pods.now += 30
    assert pods.relister.blind_for == 30
    for _ in range(6):
        await pods.relist()
    assert pods.relister.blind_for == 0


async def test_a_watch_is_blind_when_every_relist_finds_what_it_did_not_deliver() -> None:
    pods = Pods()
    for _ in range(8):
        await pods.relist()
        pods.change()
    assert pods.relister.blind_for > BLIND_AFTER
    pods.relister.delivered(PODS)
    assert pods.relister.blind_for == 0
