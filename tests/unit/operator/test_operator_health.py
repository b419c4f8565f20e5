"""When the operator is alive, and when it is ready."""

from dataclasses import replace

import pytest

from flowworker_operator.health import BLIND_AFTER, STUCK_AFTER, Pulse, live, ready

WELL = Pulse(stuck_for=0.0, blind_for=0.0, unwatched_for=0.0, watching=True, synced=True, able=True)


def test_all_is_well() -> None:
    assert (live(WELL).ok, ready(WELL).ok) == (True, True)


@pytest.mark.parametrize(
    ("pulse", "words"),
    [
        (replace(WELL, stuck_for=STUCK_AFTER + 1), "a round has not ended"),
        (replace(WELL, blind_for=BLIND_AFTER + 1), "the watches have delivered nothing"),
        (replace(WELL, unwatched_for=BLIND_AFTER + 1), "a watch has not begun"),
    ],
)
def test_what_only_a_new_process_helps_against(pulse: Pulse, words: str) -> None:
    assert not live(pulse).ok
    assert words in live(pulse).reason


@pytest.mark.parametrize(
    "pulse", [replace(WELL, synced=False), replace(WELL, watching=False), replace(WELL, able=False)]
)
def test_a_process_that_does_not_know_the_cluster_is_alive_but_not_ready(pulse: Pulse) -> None:
    assert (live(pulse).ok, ready(pulse).ok) == (True, False)


def test_what_is_refused_is_named_whether_or_not_anything_else_is_served() -> None:
    refused = replace(WELL, barred=("cannot list pods in b: forbidden",))
    assert (ready(refused).ok, ready(refused).reason) == (True, "ready\ncannot list pods in b: forbidden")
    assert "pods in b" in ready(replace(refused, able=False)).reason
