"""The life cycle has exactly the moves of its picture, and the worker's row asks for the right ones."""

import itertools
from datetime import UTC, datetime

import pytest

from flowworker.database.heartbeat import Drain, OwnRow
from flowworker.errors import LifecycleError
from flowworker.runtime.lifecycle import Lifecycle, LifecycleMachine, Move, decide
from flowworker.worker_options import WhenDrained

PATHS = {
    Lifecycle.CREATED: (),
    Lifecycle.STARTING: (Lifecycle.STARTING,),
    Lifecycle.RUNNING: (Lifecycle.STARTING, Lifecycle.RUNNING),
    Lifecycle.DRAINING: (Lifecycle.STARTING, Lifecycle.DRAINING),
    Lifecycle.STOPPING: (Lifecycle.STARTING, Lifecycle.DRAINING, Lifecycle.STOPPING),
    Lifecycle.STOPPED: (Lifecycle.STARTING, Lifecycle.STOPPED),
}

ALLOWED = {
    ("created", "starting"),
    ("starting", "running"),
    ("starting", "draining"),
    ("starting", "stopped"),
    ("running", "draining"),
    ("draining", "running"),
    ("draining", "stopping"),
    ("stopping", "stopped"),
}


def reach(state: Lifecycle) -> tuple[LifecycleMachine, list[tuple[str, str, str]]]:
    changes: list[tuple[str, str, str]] = []
    machine = LifecycleMachine(lambda before, after, reason: changes.append((before, after, reason)))
    for step in PATHS[state]:
        machine.move(step, "on the way")
    changes.clear()
    return machine, changes


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(Lifecycle, 2)])
def test_only_the_moves_of_the_picture_exist(source: Lifecycle, target: Lifecycle) -> None:
    machine, changes = reach(source)
    if (source.value, target.value) in ALLOWED:
        machine.move(target, "because")
        assert machine.current is target
        assert changes == [(source, target, "because")]
    else:
        with pytest.raises(LifecycleError, match=f"from {source} to {target}"):
            machine.move(target, "because")
        assert machine.current is source


@pytest.mark.parametrize("state", [*Lifecycle])
def test_staying_is_no_move_and_no_error(state: Lifecycle) -> None:
    machine, changes = reach(state)
    machine.move(state, "again")
    assert changes == []


def row(state: str = "running", *, deprecated: bool = False, drain: bool = False) -> OwnRow:
    asked = Drain(until=datetime(2026, 1, 1, tzinfo=UTC), reason="scale down") if drain else None
    return OwnRow(state=state, deprecated=deprecated, drain=asked)


@pytest.mark.parametrize(
    ("own", "lifecycle", "in_flight", "when_drained", "move"),
    [
        (None, Lifecycle.RUNNING, 0, WhenDrained.EXIT, Move.STAY),
        (row(), Lifecycle.RUNNING, 3, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.STARTING, 0, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.RUNNING, 3, WhenDrained.EXIT, Move.DRAIN),
        (row(drain=True), Lifecycle.DRAINING, 3, WhenDrained.EXIT, Move.STAY),
        (row(drain=True), Lifecycle.DRAINING, 0, WhenDrained.EXIT, Move.END),
        (row(drain=True), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.STAY),
        (row(), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.RESUME),
        (row(deprecated=True), Lifecycle.RUNNING, 1, WhenDrained.WAIT, Move.DRAIN),
        (row(deprecated=True), Lifecycle.DRAINING, 0, WhenDrained.WAIT, Move.END),
        (row("lost"), Lifecycle.RUNNING, 1, WhenDrained.EXIT, Move.REJOIN),
        (row("lost"), Lifecycle.STOPPING, 1, WhenDrained.EXIT, Move.STAY),
    ],
)
def test_a_workers_duty_follows_from_its_row(
    own: OwnRow | None, lifecycle: Lifecycle, in_flight: int, when_drained: WhenDrained, move: Move
) -> None:
    decision = decide(own, lifecycle=lifecycle, in_flight=in_flight, when_drained=when_drained)
    assert decision.move is move
    if move is not Move.STAY:
        assert decision.reason
