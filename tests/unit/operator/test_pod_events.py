"""Which events of a pod are read, and when."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from tests.unit.operator.objects import KEY, live_pod

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import Refused
from flowworker_operator.database import Key
from flowworker_operator.domain.snapshot import Obstacle
from flowworker_operator.pod_events import LONGEST_KEPT, MOST_READ, PodEvents, newest_obstacle


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
    message = "old"

    async def list(self, *_: Any, keep: Callable[[Any], Any], most: int, **__: Any) -> Sequence[dict[str, Any]]:
        self.asked += 1
        assert most == MOST_READ
        if self.refuses:
            raise Refused(403, "Forbidden", "events is forbidden")
        return [keep(event(1, self.message))]


async def test_events_are_read_ever_more_rarely_and_without_the_right_not_at_all() -> None:
    server, now = Server(), 0.0
    events = PodEvents(cast("Cluster", server), lambda: now)
    for second in range(600):
        now = float(second)
        assert await events.obstacle(KEY, live_pod(), age=now) == Obstacle(reason="FailedMount", message="old")
    assert server.asked < 40
    server.refuses = True
    assert await events.obstacle(Key(namespace="shop", name="other"), live_pod(uid="other"), age=5.0) is None


async def test_a_flowworker_whose_pods_come_and_go_is_read_for_no_more_often_and_one_obstacle_is_kept() -> None:
    server, now = Server(), 0.0
    server.message = "x" * 1_000_000
    events = PodEvents(cast("Cluster", server), lambda: now)
    for second in range(100):
        now = float(second)
        found = await events.obstacle(KEY, live_pod(uid=f"pod-{second}"), age=3.0)
        assert found is None or len(found.message) == LONGEST_KEPT
    assert server.asked == 20
    asked = server.asked
    for number in range(2000):
        await events.obstacle(Key(namespace="crowd", name=str(number)), live_pod(uid=f"of-{number}"), age=3.0)
    assert await events.obstacle(KEY, live_pod(uid="pod-95"), age=50.0) is not None
    assert server.asked == asked + 2000, "what is known of one FlowWorker outlives all that is asked for others"
