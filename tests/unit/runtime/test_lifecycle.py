"""The life cycle has exactly the moves of its picture."""

import itertools

import pytest

from flowworker.errors import LifecycleError
from flowworker.runtime.lifecycle import Lifecycle, LifecycleMachine

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
