"""Addresses that the server may connect to for a client: hosts by name, addresses by network. Pure.

A name is never sufficient: every address that it resolves to must be a public unicast address, or be in a network that
the operator named. Addresses that stand for others (IPv4 in IPv6 in all its forms) are always refused, because no
public host needs them. Cloud providers' metadata services hand out credentials, and some have addresses outside the
private ranges. They are on a list. Only a network of that one address, or that address as a host, allows one (hazard
S15).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY_HOST = "*"

_UNICAST_6 = IPv6Network("2000::/3")
"""IANA's global unicast space; everything else (NAT64, mapped, unique local, multicast) is outside."""
_SPECIAL: tuple[Network, ...] = (
    IPv4Network("161.26.0.0/16"),  # IBM Cloud's internal services
    IPv4Network("166.8.0.0/14"),
    IPv4Network("192.0.0.0/24"),  # IETF protocols; Python 3.11 treats most of it as global
    IPv4Network("192.31.196.0/24"),  # AS112
    IPv4Network("192.52.193.0/24"),  # AMT relays
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("192.175.48.0/24"),  # AS112
    IPv6Network("2001::/23"),  # IETF protocols: Teredo, ORCHID and others
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("2620:4f:8000::/48"),  # AS112
    IPv6Network("3fff::/20"),  # documentation
)
_METADATA = frozenset(
    int(ip_address(address))
    for address in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle, OpenStack and most others
        "169.254.170.2",  # AWS: credentials of containers
        "169.254.170.23",  # AWS: credentials of pods
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "168.63.129.16",  # Azure's WireServer, in a public range
        "192.0.0.192",  # Oracle
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fd00:c1::a9fe:a9fe",  # Oracle
    )
)
_LOW = 2**32 - 1


def is_public(address: Address) -> bool:
    """Whether this is one ordinary host on the internet."""
    if not address.is_global or address.is_multicast or address.is_reserved or is_metadata(address):
        return False
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in _UNICAST_6):
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)


def is_metadata(address: Address) -> bool:
    """Whether a cloud's metadata service uses this address, or the IPv4 address in the last bits of an IPv6 one."""
    return not _METADATA.isdisjoint((int(address), int(address) & _LOW))


class Allowed:
    """What the operator allows: host names, or `*` for any, and networks beside the public internet.

    A host given as an address is allowed to be that address. Raises ValueError for an invalid network.
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
        named = [each for each in self._networks if each.version == address.version and address in each]
        if is_metadata(address):
            return any(each.num_addresses == 1 for each in named)
        return bool(named) or is_public(address)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
