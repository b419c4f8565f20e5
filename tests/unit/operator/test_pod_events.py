"""Which events of a pod are read, and when."""

from collections.abc import Sequence
from typing import Any, cast

from tests.unit.operator.objects import live_pod

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Refused
from flowworker_operator.domain.snapshot import Obstacle
from flowworker_operator.pod_events import PodEvents, newest_obstacle


def event(second: int, message: str, reason: str = "FailedMount", **fields: Any) -> dict[str, Any]:
    stamp = f"2026-01-01T11:00:{second:02}Z"
    return {"metadata": {}, "reason": reason, "message": message, "lastTimestamp": stamp, **fields}


def test_the_newest_event_that_hinders_a_pod_counts() -> None:
    series = {"lastObservedTime": "2026-01-01T11:00:09.000000Z"}
    events = [
        event(1, "old"),
        event(3, "new"),
        event(5, "Back-off pulling image", reason="BackOff"),
    ]
    assert newest_obstacle(events) == Obstacle(reason="FailedMount", message="new")
    assert newest_obstacle([*events, event(0, "again and again", series=series)]) == Obstacle(
        reason="FailedMount", message="again and again"
    )
    assert newest_obstacle([event(5, "Back-off pulling image", reason="BackOff")]) is None


class Server:
    """Answers for an API server, and counts."""

    asked = 0
    refuses = False

    async def list(self, *_: Any, **__: Any) -> Sequence[dict[str, Any]]:
        self.asked += 1
        if self.refuses:
            raise Refused(403, "Forbidden", "events is forbidden")
        return [event(1, "old")]


async def test_events_are_read_ever_more_rarely_and_without_the_right_not_at_all() -> None:
    server, now = Server(), 0.0
    events = PodEvents(cast("Cluster", server), lambda: now)
    for second in range(600):
        now = float(second)
        assert await events.obstacle(live_pod(), age=now) == Obstacle(reason="FailedMount", message="old")
    assert server.asked < 40
    server.refuses = True
    assert await events.obstacle(live_pod(uid="other"), age=5.0) is None
