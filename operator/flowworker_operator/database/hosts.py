"""Which hosts a tenant's connection string may lead to, and of which it may see exactly why they cannot be reached.

What the operator says of a host shows whether it exists, whether a port is open, and whether a firewall stands before
it: a tenant could so look past its own network policies. A name of its own namespace is no exception, since a Service
may lead anywhere. So only who runs the operator names such hosts.

Addresses that mean the machine which dials them, or what is next to it, are no tenant's: the operator's own ports, the
node's, and a cloud's metadata. They are dialled only where who runs the operator has listed the address.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from flowworker.errors import UsageError

INWARD = "it leads to a loopback or link-local address, and only those that `databaseHosts` lists are connected to"


class InwardError(OSError):
    """A host leads to nothing but addresses that are not dialled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """A list of names and networks."""

    names: tuple[str, ...] = ()
    """Lower case; `*` stands for anything."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def __contains__(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            name = host.lower().rstrip(".")
            return any(fnmatchcase(name, pattern) for pattern in self.names)
        return any(address in network for network in self.networks)

    def admits(self, address: str) -> bool:
        """Whether an address may be dialled; names on the list allow none, since they may lead anywhere."""
        return address in self or not _is_inward(address)


def known_hosts(entries: Iterable[str]) -> KnownHosts:
    """Read names (`*.db.example`), addresses and networks (`10.20.0.0/16`).

    Raises:
        UsageError: an entry with a / is no network.
    """
    names, networks = list[str](), list[IPv4Network | IPv6Network]()
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            if "/" in entry:
                raise UsageError(f"{entry} is no network") from None
            names.append(entry.lower().rstrip("."))
    return KnownHosts(names=tuple(names), networks=tuple(networks))


def _is_inward(address: str) -> bool:
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    found = found if mapped is None else mapped
    return found.is_loopback or found.is_link_local or found.is_unspecified
