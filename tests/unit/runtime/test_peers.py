"""Who is dead: never somebody who lives, and soon who does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import make_peer

from flowworker.database.records import Peer
from flowworker.runtime.pulse.leases import BEAT_INTERVAL
from flowworker.runtime.pulse.peers import DEATH_AFTER, REGULAR_GAP, Watch, dead_peers, failed, succeeded

BOOT = UUID(int=99)


def dead(watch: Watch, peers: Sequence[Peer], pod_uid: str | None = None) -> list[UUID]:
    return [peer.worker_id for peer in dead_peers(watch, peers, boot_id=BOOT, pod_uid=pod_uid)]


def observe(watch: Watch, start: float, beats: int, peer: Peer, gap: float = BEAT_INTERVAL) -> tuple[Watch, float]:
    """Beat in regular order while the peer shows no change."""
    now = start
    for _ in range(beats):
        watch = succeeded(watch, now, [peer])
        now += gap
    return watch, now


def test_a_silent_peer_is_dead_after_ten_seconds_of_our_own_beats() -> None:
    peer = make_peer(1, 0)
    watch = Watch()
    death: float | None = None
    for tick in range(10):
        now = 100.0 + tick * BEAT_INTERVAL
        watch = succeeded(watch, now, [peer])
        if dead(watch, [peer]) and death is None:
            death = now - 100.0
    assert death is not None
    assert DEATH_AFTER <= death < DEATH_AFTER + BEAT_INTERVAL


def test_a_failed_beat_of_our_own_starts_the_count_anew() -> None:
    peer = make_peer(1, 0)
    watch, now = observe(Watch(), 0.0, 4, peer)
    watch, _ = observe(failed(watch), now, 4, peer)
    assert dead(watch, [peer]) == []


def test_a_frozen_observer_starts_anew() -> None:
    peer = make_peer(1, 0)
    watch, now = observe(Watch(), 0.0, 3, peer)
    watch, _ = observe(watch, now + 3600.0, 3, peer)
    assert dead(watch, [peer]) == []


def test_a_row_that_is_missing_is_unknown() -> None:
    peer = make_peer(1, 0)
    watch, now = observe(Watch(), 0.0, 3, peer)
    watch = succeeded(watch, now, [])
    watch = succeeded(watch, now + BEAT_INTERVAL, [peer])
    assert dead(watch, []) == []
    assert dead(watch, [peer]) == []


def test_a_predecessor_in_our_own_pod_is_dead_at_once() -> None:
    predecessor = make_peer(1, 0, pod_uid="pod")
    sibling = make_peer(2, 0, pod_uid="pod", boot_id=BOOT)
    elsewhere = make_peer(3, 0, pod_uid="other")
    peers = [predecessor, sibling, elsewhere]
    watch = succeeded(Watch(), 0.0, peers)
    assert dead(watch, peers, pod_uid="pod") == [predecessor.worker_id]
    assert dead(watch, peers) == []


def test_who_was_marked_lost_is_dead_at_once_and_who_stopped_needs_no_judgement() -> None:
    lost, stopped = make_peer(1, 0, state="lost"), make_peer(2, 0, state="stopped")
    watch, _ = observe(Watch(), 0.0, 20, stopped)
    assert dead(watch, [lost, stopped]) == [lost.worker_id]


@dataclass
class Tick:
    """One beat of the observer: how long after the last one, and whether it succeeded."""

    gap: float
    succeeds: bool


ticks = st.lists(
    st.builds(Tick, gap=st.floats(min_value=0, max_value=4000, allow_nan=False), succeeds=st.booleans()), max_size=60
)


@given(ticks=ticks, outage_gap=st.floats(min_value=0.0, max_value=7.0))
def test_whoever_beats_as_often_as_we_see_is_never_declared_dead(ticks: list[Tick], outage_gap: float) -> None:
    """Outages, frozen observers and jumps: a peer that has beaten within 10 s of regular observation lives."""
    watch, now, beat, unseen = Watch(), 0.0, 0, 0.0
    for tick in ticks:
        now += tick.gap
        if not tick.succeeds:
            watch, unseen = failed(watch), 0.0
            continue
        unseen = unseen + tick.gap if tick.gap <= REGULAR_GAP else 0.0
        if unseen >= outage_gap:  # the peer beats again before ten seconds of regular observation are over
            beat, unseen = beat + 1, 0.0
        peer = make_peer(1, beat)
        watch = succeeded(watch, now, [peer])
        assert dead(watch, [peer]) == [] or unseen >= DEATH_AFTER


@given(jump=st.integers(min_value=-(10**8), max_value=10**8))
def test_the_databases_clock_may_jump_either_way(jump: int) -> None:
    watch, now = Watch(), 0.0
    for number in range(20):
        beat = number + (10**9 + jump if number > 10 else 10**9)
        peer = make_peer(1, beat)
        watch = succeeded(watch, now, [peer])
        now += BEAT_INTERVAL
        assert dead(watch, [peer]) == []
