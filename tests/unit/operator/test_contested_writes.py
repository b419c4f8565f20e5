"""When a write that others undo is repeated, and who is named for it."""

from typing import Any

import pytest

from flowworker_operator.cluster.resources import DEPLOYMENTS
from flowworker_operator.contested_writes import (
    BY_POLICY,
    LONGEST_PAUSE,
    ContestedWrites,
    content_of,
    contested,
    last_writer,
    pause,
)
from flowworker_operator.domain.plan import Scale

SLOT = ("Scale", "report-1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fought(seconds: int, content: str = "three") -> tuple[int, ContestedWrites, Clock]:
    """An operator that looks every second and always finds its write undone; how often it writes."""
    clock = Clock()
    contested, times = ContestedWrites(clock), 0
    for second in range(seconds):
        clock.now = float(second)
        if not contested.must_wait(SLOT, content):
            contested.done(SLOT, content)
            times += 1
    return times, contested, clock


def test_a_write_that_is_undone_is_repeated_once_at_once_and_then_ever_more_rarely() -> None:
    assert [pause(times) for times in (1, 2, 3, 4, 50)] == [0.0, 5.0, 10.0, 20.0, LONGEST_PAUSE]
    assert fought(60)[0] == 5
    assert fought(3600)[0] < 15


def test_another_content_is_written_at_once() -> None:
    _, contested, _ = fought(60)
    assert contested.must_wait(SLOT, "three")
    assert not contested.must_wait(SLOT, "four")


def test_what_lasted_for_long_was_no_fight() -> None:
    clock = Clock()
    contested = ContestedWrites(clock)
    for _ in range(10):
        assert not contested.must_wait(SLOT, "three")
        contested.done(SLOT, "three")
        clock.now += 61


def test_a_fight_is_reported_until_its_writes_are_no_longer_undone() -> None:
    _, contested, clock = fought(60)
    assert contested.unexplained(SLOT)
    contested.explain(SLOT, "replicas are changed by hpa")
    assert contested.standing() == "replicas are changed by hpa"
    clock.now += LONGEST_PAUSE
    contested.done(SLOT, "three")
    assert contested.standing() is not None
    clock.now += LONGEST_PAUSE
    assert contested.standing() is None


def test_writes_that_are_wanted_no_more_are_forgotten() -> None:
    clock = Clock()
    contested = ContestedWrites(clock)
    for number in range(5000):
        clock.now += 1
        for _ in range(3):
            if not contested.must_wait(("Mark", number), "cost"):
                contested.done(("Mark", number), "cost")
        contested.standing()
        assert len(contested) <= 130


def test_the_same_number_is_the_same_write_whatever_version_it_was_decided_on() -> None:
    one = Scale(name="a", resource_version="1", replicas=3, reason="so")
    assert content_of(one) == content_of(Scale(name="a", resource_version="2", replicas=3, reason="otherwise"))


def live(*writers: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    fields = [{"manager": manager, "time": time, "fieldsV1": fields} for manager, time, fields in writers]
    return {"metadata": {"managedFields": fields}}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
IMAGE: dict[str, Any] = {"f:spec": {"f:containers": {'k:{"name":"worker"}': {".": {}, "f:image": {}}}}}
WHOLE: dict[str, Any] = {"f:spec": {"f:tolerations": {}}}


@pytest.mark.parametrize(
    ("item", "path", "writer"),
    [
        (live(("hpa", "1", REPLICAS)), ("spec", "replicas"), "hpa"),
        (live(("old", "1", REPLICAS), ("new", "2", REPLICAS)), ("spec", "replicas"), "new"),
        (live(("hpa", "1", REPLICAS)), ("spec", "paused"), BY_POLICY),
        (live(("flowworker-operator", "1", REPLICAS)), ("spec", "replicas"), BY_POLICY),
        (live(("setter", "1", IMAGE)), ("spec", "containers", ("name", "worker"), "image"), "setter"),
        (live(("setter", "1", IMAGE)), ("spec", "containers", ("name", "other"), "image"), BY_POLICY),
        (live(("whole", "1", WHOLE)), ("spec", "tolerations", "x"), "whole"),
    ],
)
def test_who_has_the_field_now_is_named(item: dict[str, Any], path: Any, writer: str) -> None:
    assert last_writer(item, path) == writer


def test_an_object_that_does_not_go_is_reported_with_what_holds_it() -> None:
    held = {"metadata": {"finalizers": ["example.org/keep"]}}
    assert "example.org/keep" in contested(DEPLOYMENTS, "report-1", held, None)
