"""An installation finds out again and again whether the status keeps names."""

from typing import Any, cast

from tests.unit.operator.objects import flowworker

from flowworker_operator.api.status import Installation
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.events import EventRecorder
from flowworker_operator.domain.rivalry import ASKED_AGAIN_AFTER, Stance
from flowworker_operator.rivals import Rivals
from flowworker_operator.store import Store

ME = Installation(release="one/operator", version="2")


class Api:
    """A cluster whose CRD may not know the field yet."""

    def __init__(self) -> None:
        self.keeps_names = False
        self.writes = 0

    async def patch(self, *_: object, **__: object) -> dict[str, Any]:
        self.writes += 1
        status = {"servedBy": ME.model_dump(by_alias=True)} if self.keeps_names else {}
        return flowworker(version=str(5 + self.writes), status=status)


async def test_a_status_that_keeps_no_name_is_tried_again_after_a_while() -> None:
    api, now = Api(), 1000.0
    rivals = Rivals(
        me=ME,
        cluster=cast("Cluster", api),
        store=Store(),
        recorder=cast("EventRecorder", None),
        may_write=lambda: True,
        clock=lambda: now,
    )
    for _ in range(3):
        assert await rivals.settle(flowworker()) is Stance.SERVE
    assert api.writes == 1
    api.keeps_names = True
    now += ASKED_AGAIN_AFTER
    for uid in ("1", "2"):
        assert await rivals.settle(flowworker(uid)) is Stance.SERVE
    assert api.writes == 3
