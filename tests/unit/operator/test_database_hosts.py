"""Which hosts are known to who runs the operator."""

import pytest

from flowworker.errors import UsageError
from flowworker_operator.database.hosts import known_hosts

KNOWN = known_hosts(["db.example", "*.postgres.svc", "10.20.0.0/16", "192.0.2.7", "2001:db8::/32"])


@pytest.mark.parametrize(
    "host", ["db.example", "DB.Example.", "a.postgres.svc", "10.20.255.1", "192.0.2.7", "2001:db8::1"]
)
def test_it_is_on_the_list(host: str) -> None:
    assert host in KNOWN


@pytest.mark.parametrize(
    "host",
    ["example", "xdb.example", "db.example.evil", "postgres.svc", "10.21.0.1", "192.0.2.8", "::1", "10.20.0.1.x"],
)
def test_it_is_not(host: str) -> None:
    assert host not in KNOWN


def test_nothing_is_known_by_itself() -> None:
    assert "127.0.0.1" not in known_hosts([])


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/99"):
        known_hosts(["10.0.0.0/99"])
