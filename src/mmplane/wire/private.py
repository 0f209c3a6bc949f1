"""Which networks ranks of several machines may use: without TLS, what is sent there is neither encrypted nor signed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

PRIVATE = tuple(
    map(
        ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
    )
)


def check_private(host: str) -> None:
    """Raise ValueError unless `host` is an address of loopback or of a private network. Names are refused."""
    address = ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if not any(address in network for network in PRIVATE):
        raise ValueError(f"{host} is not an address of a private network, and no other is used")
