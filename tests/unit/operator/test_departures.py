"""Which pods' workers are marked lost, and for how long."""

from typing import Any

from tests.unit.operator.objects import KEY, live_pod

from flowworker_operator.database import Key
from flowworker_operator.departures import MARKING, REMEMBERED, Departures


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def worker(uid: str, state: dict[str, Any], restarts: int = 0, **changes: Any) -> dict[str, Any]:
    status = {"name": "worker", "state": state, "restartCount": restarts, "lastState": {"terminated": {"exitCode": 1}}}
    return live_pod(f"pod-{uid}", uid, containerStatuses=[status], **changes)


RUNNING: dict[str, Any] = {"running": {}}
BACKING_OFF: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff"}}


def ended(uid: str) -> dict[str, Any]:
    return worker(uid, {"terminated": {"exitCode": 0}}, phase="Succeeded")


def test_a_pod_that_is_gone_is_marked_until_that_is_done() -> None:
    departures = Departures(Clock())
    departures.deleted(KEY, ended("a"))
    assert departures.to_mark(KEY, [], []) == ({"a"}, set())
    assert departures.to_mark(KEY, [], []) == ({"a"}, set())
    assert departures.to_mark(KEY, [], ["a"]) == (set(), set())


def test_a_deleted_pod_whose_worker_may_live_is_in_doubt_for_a_while() -> None:
    clock = Clock()
    departures = Departures(clock)
    departures.deleted(KEY, worker("a", RUNNING))
    assert departures.in_doubt(KEY)
    assert departures.to_mark(KEY, [], []) == (set(), {"a"})
    clock.now += MARKING
    assert departures.to_mark(KEY, [], []) == (set(), set())
    assert not departures.in_doubt(KEY)


def test_the_workers_of_a_pod_that_backs_off_are_marked_for_a_while_each_time() -> None:
    clock = Clock()
    departures = Departures(clock)
    for restarts in range(2):
        pods = [worker("a", BACKING_OFF, restarts)]
        assert departures.to_mark(KEY, pods, []) == (set(), {"a"})
        clock.now += MARKING
        assert departures.to_mark(KEY, pods, []) == (set(), set())


def test_pods_without_end_are_not_remembered_without_end_and_none_of_another_is_forgotten() -> None:
    departures, other = Departures(Clock()), Key(namespace="shop", name="other")
    departures.deleted(other, ended("b"))
    for number in range(3 * REMEMBERED):
        departures.deleted(KEY, ended(str(number)))
    gone, _ = departures.to_mark(KEY, [], [])
    assert (len(gone), str(3 * REMEMBERED - 1) in gone) == (REMEMBERED, True)
    assert departures.to_mark(other, [], []) == ({"b"}, set())


def test_a_worker_that_was_started_again_is_announced_once() -> None:
    departures = Departures(Clock())
    assert list(departures.restarted(KEY, [worker("a", RUNNING, 1)])) == []
    (event,) = departures.restarted(KEY, [worker("a", RUNNING, 2)])
    assert (event.reason, event.message.split(":")[0]) == ("WorkerRestarted", "pod-a")
    assert list(departures.restarted(KEY, [worker("a", RUNNING, 2)])) == []


def test_what_is_forgotten_is_marked_no_more() -> None:
    departures = Departures(Clock())
    departures.deleted(KEY, ended("a"))
    departures.forget(KEY)
    assert departures.to_mark(KEY, [], []) == (set(), set())
