"""Limits on connections: how many in total and per address, and which connection is closed if there are too many.

An address is an IPv4 address or an IPv6 network of 64 bits, which is what one customer gets. 127.0.0.1, ::1 and
`--trusted-proxy` stand for many clients, so their connections only count towards the total. The rest of 127.0.0.0/8 is
treated like any other address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import msgspec

SHARE = 4
"""One address may have a quarter of all connections."""
LOOPBACK = ("127.0.0.1", "::1")


class CrowdStatistics(msgspec.Struct, frozen=True):
    """Current connections, and how many were refused or closed in favour of others."""

    connections: int
    addresses: int
    refused: int
    evicted: int


class Crowd:
    """The table of connections: the address of each, and the function that closes it."""

    def __init__(self, connections_max: int, trusted: Sequence[str] = ()) -> None:
        self._connections_max = connections_max
        self._address_max = max(1, connections_max // SHARE)
        self._trusted = [ip_network(network) for network in (*LOOPBACK, *trusted)]
        self._by_address: dict[object, dict[Callable[[], None], None]] = {}
        self._connections = 0
        self._refused = 0
        self._evicted = 0

    def admit(self, host: str, end: Callable[[], None]) -> bool:
        """Return whether one more connection from `host` is accepted.

        If the table is full, the newest connection of the address with the most connections is closed.
        """
        address = self._address(host)
        mine = 0 if address is None else len(self._by_address.get(address, ()))
        if mine >= self._address_max or (self._connections >= self._connections_max and not self._evict(mine + 1)):
            self._refused += 1
            return False
        self._by_address.setdefault(address, {})[end] = None
        self._connections += 1
        return True

    def leave(self, host: str, end: Callable[[], None]) -> None:
        """A connection has ended. Idempotent: a refused or evicted connection is not in the table."""
        address = self._address(host)
        if end in self._by_address.get(address, ()):
            self._remove(address, end)

    def statistics(self) -> CrowdStatistics:
        """Return the current counts."""
        return CrowdStatistics(self._connections, len(self._by_address), self._refused, self._evicted)

    def _evict(self, fewest: int) -> bool:
        capped = (address for address in self._by_address if address is not None)
        greediest = max(capped, key=lambda address: len(self._by_address[address]), default=None)
        if greediest is None or len(self._by_address[greediest]) <= fewest:
            return False
        end = next(reversed(self._by_address[greediest]))
        self._remove(greediest, end)
        self._evicted += 1
        end()
        return True

    def _remove(self, address: object, end: Callable[[], None]) -> None:
        del self._by_address[address][end]
        self._connections -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _address(self, host: str) -> object:
        """Return the address or network that counts as one client; None if many clients may be behind it."""
        address = ip_address(host)
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._trusted):
            return None
        return address if address.version == 4 else int(address) >> 64
