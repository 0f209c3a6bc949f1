"""Which addresses are public, form by form: each of these has led into somebody's network once (S3)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, strategies

from mmplane.frontend.sources.addresses import Allowed, is_public

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.42.42",
    "168.63.129.16",
    "192.0.0.192",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
    "fd00:c1::a9fe:a9fe",
    "fe80::a9fe:a9fe",
    "fe80::a9fe:a9fe%eth0",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "64:ff9b::a83f:8110",
    "2a01:db8:64::a83f:8110",
]
"""Where a cloud hands out credentials (S15), some of it in public ranges or behind somebody's NAT64."""
INSIDE = [
    *METADATA,
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.0.170",
    "192.0.0.255",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "161.26.0.10",
    "166.9.1.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2620:4f:8000::1",
    "2001:db8::1",
    "2002:a9fe:a9fe::",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700::1111%eth0",
]
OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "192.169.0.1",
    "192.0.1.1",
    "168.63.129.17",
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
]


@pytest.mark.parametrize("address", INSIDE)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not Allowed(["*"]).dials(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_public(address: str) -> None:
    assert Allowed(["*"]).dials(ip_address(address))


@given(strategies.ip_addresses(v=6))
def test_no_public_address_holds_another(address: object) -> None:
    """Whatever Python knows to be IPv4 in disguise is refused."""
    held = [getattr(address, form) for form in ("ipv4_mapped", "sixtofour", "teredo")]
    assert not any(held) or not is_public(address)  # type: ignore[arg-type]


def test_a_network_that_the_operator_names() -> None:
    allowed = Allowed(["cat.test"], ["10.1.0.0/16", "fd00::/8"])
    assert allowed.dials(ip_address("10.1.2.3"))
    assert allowed.dials(ip_address("fd00::5"))
    assert not allowed.dials(ip_address("10.2.0.1"))
    with pytest.raises(ValueError):
        Allowed([], ["10.0.0.0/33"])


def test_an_address_given_as_host_is_allowed_and_no_other() -> None:
    allowed = Allowed(["127.0.0.1", "::1"])
    assert allowed.names("127.0.0.1")
    assert allowed.names("::1")
    assert allowed.dials(ip_address("127.0.0.1"))
    assert not allowed.dials(ip_address("127.0.0.2"))


def test_uuids() -> None:
    assert Allowed(["Cat.test"]).names("cAT.test")
    assert not Allowed(["cat.test"]).names("cat.test.")
    assert not Allowed([]).names("cat.test")
    assert not Allowed(["*"]).names("")
    assert Allowed(["*"]).names("anything")


@pytest.mark.parametrize("address", METADATA)
def test_only_a_network_of_that_one_address_allows_metadata(address: str) -> None:
    dialled = ip_address(address)
    wide = ["0.0.0.0/0", "::/0", "169.254.0.0/16", "100.64.0.0/10", "fd00::/8", "168.63.129.16/31"]
    assert not Allowed(["*"], wide).dials(dialled)
    alone = address.partition("%")[0]
    if alone == address:
        assert Allowed(["cat.test"], [alone]).dials(dialled)
        assert Allowed([address]).dials(dialled)
