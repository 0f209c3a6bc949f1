"""Whom the server may dial for a client: hosts by name, addresses by network. Pure.

A name is never enough: whatever it resolves to must be a public unicast address, or lie in a network that the operator
named. Addresses that stand for others (IPv4 in IPv6 in all its forms) are refused outright: no public host needs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY_HOST = "*"

_UNICAST_6 = IPv6Network("2000::/3")
"""What IANA has given out for global unicast: everything else (NAT64, mapped, unique local, multicast) is outside."""
_SPECIAL: tuple[Network, ...] = (
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("2001::/23"),  # IETF protocols: Teredo, ORCHID and others
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),  # documentation
)


def is_public(address: Address) -> bool:
    """Whether this is one ordinary host on the internet."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in _UNICAST_6):
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)


class Allowed:
    """What the operator allows: host names, or `*` for any, and networks beside the public internet.

    A host that is given as an address is allowed to be that address. Raises ValueError for a network that is none.
    """

    def __init__(self, hosts: Iterable[str], networks: Iterable[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        literals = [address for host in self._hosts if (address := _literal(host)) is not None]
        self._networks: list[Network] = [ip_network(network) for network in networks]
        self._networks += [ip_network(address) for address in literals]

    def names(self, host: str) -> bool:
        """Whether a URL may name this host."""
        return bool(host) and (ANY_HOST in self._hosts or host.lower() in self._hosts)

    def dials(self, address: Address) -> bool:
        """Whether a connection to this address may be made."""
        named = any(address in network for network in self._networks if network.version == address.version)
        return named or is_public(address)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
