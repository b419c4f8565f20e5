"""When a Lease may be taken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowworker_operator.cluster.lease import Record, Timing, claimed, released, sighted, wait_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIMING = Timing()


def record(**spec: Any) -> Record:
    return Record.of({"spec": spec}, TIMING)


def held_by(holder: str, **spec: Any) -> Record:
    return record(holderIdentity=holder, leaseDurationSeconds=15, renewTime="2026-01-01T12:00:00.000000Z", **spec)


@pytest.mark.parametrize("lease", [{}, {"spec": None}, {"spec": {}}, {"spec": {"holderIdentity": None}}])
def test_a_lease_that_says_nothing_has_no_holder(lease: dict[str, Any]) -> None:
    assert wait_for(sighted(Record.of(lease, TIMING), None, 100), "me", 100) == 0


def test_a_lease_never_seen_is_free() -> None:
    assert wait_for(None, "me", 100) == 0


def test_our_own_lease_needs_no_patience() -> None:
    assert wait_for(sighted(held_by("me"), None, 100), "me", 100) == 0


def test_another_holders_lease_is_free_when_it_has_not_changed_for_as_long_as_it_says() -> None:
    sighting = sighted(held_by("other"), None, 100)

    assert wait_for(sighting, "me", 100) == 15
    assert wait_for(sighting, "me", 114) == 1
    assert wait_for(sighting, "me", 115) == 0


def test_the_age_of_a_record_is_counted_from_its_first_sight() -> None:
    first = sighted(held_by("other"), None, 100)

    assert sighted(held_by("other"), first, 110) is first


def test_a_renewal_is_a_new_record_whatever_time_it_has() -> None:
    first = sighted(held_by("other"), None, 100)
    earlier = NOW - timedelta(days=365)
    again = sighted(record(**claimed(held_by("other"), "other", earlier, TIMING)), first, 110)

    assert again.since == 110


def test_what_the_holder_says_about_its_duration_counts() -> None:
    long_lease = record(holderIdentity="other", leaseDurationSeconds=60)

    assert wait_for(sighted(long_lease, None, 100), "me", 115) == 45


def test_who_takes_a_lease_counts_a_transition() -> None:
    spec = claimed(held_by("other", leaseTransitions=3, acquireTime="long ago"), "me", NOW, TIMING)

    assert spec == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "leaseTransitions": 4,
        "acquireTime": "2026-01-01T12:00:00.000000Z",
        "renewTime": "2026-01-01T12:00:00.000000Z",
    }


def test_who_renews_a_lease_changes_nothing_but_the_time() -> None:
    before = held_by("me", leaseTransitions=3, acquireTime="then")
    spec = claimed(before, "me", NOW, TIMING)

    assert (spec["acquireTime"], spec["leaseTransitions"]) == ("then", 3)


def test_the_first_holder_is_no_transition() -> None:
    assert claimed(None, "me", NOW, TIMING)["leaseTransitions"] == 0


def test_a_released_lease_is_free_at_once() -> None:
    assert wait_for(sighted(record(**released(NOW)), None, 100), "me", 100) == 0


@pytest.mark.parametrize(
    ("lease", "deadline", "retry"), [(10, 10.0, 2.0), (15, 4.0, 2.0), (15, 10.0, 0.0), (15, 10.0, -1.0)]
)
def test_times_that_allow_two_holders_are_refused(lease: int, deadline: float, retry: float) -> None:
    with pytest.raises(ValueError, match="must last longer"):
        Timing(lease=lease, deadline=deadline, retry=retry)
