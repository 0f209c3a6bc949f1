"""Who is connected: shares, and whose connection goes when the table is full (R20)."""

from __future__ import annotations

import pytest

from mmplane.frontend.http.crowd import Crowd


class Ends:
    """Connections, by what ends them."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.ended: list[str] = []

    def admit(self, host: str, name: str = "") -> bool:
        return self.crowd.admit(host, lambda: self.ended.append(name or host))


def test_an_address_has_a_quarter() -> None:
    ends = Ends(Crowd(8))
    assert [ends.admit("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert ends.admit("10.0.0.2")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.7", "2001:db8::9"])
def test_who_stands_for_many_may_have_all(host: str) -> None:
    ends = Ends(Crowd(8, ["192.0.2.0/24", "2001:db8::9"]))
    assert [ends.admit(host) for _ in range(9)] == [True] * 8 + [False]


@pytest.mark.parametrize("host", ["127.0.0.2", "127.1.0.1", "192.0.3.7", "2001:db8::8", "0.0.0.0", "::"])
def test_who_does_not(host: str) -> None:
    ends = Ends(Crowd(8, ["192.0.2.0/24", "2001:db8::9"]))
    assert [ends.admit(host) for _ in range(3)] == [True, True, False]


def test_one_network_of_64_bits_is_one_address() -> None:
    ends = Ends(Crowd(8))
    assert [ends.admit(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    assert ends.admit("2001:db8:0:1::1")


def test_when_the_table_is_full_the_newest_of_the_greediest_goes() -> None:
    ends = Ends(Crowd(16))
    for address, count in ((1, 4), (2, 4), (3, 4), (4, 3), (5, 1)):
        for number in range(count):
            assert ends.admit(f"10.0.0.{address}", f"{address}.{number}")
    assert ends.admit("10.0.0.6")
    assert ends.admit("127.0.0.1")
    assert ends.ended == ["1.3", "2.3"]
    assert ends.crowd.statistics().connections == 16


def test_nobody_goes_for_one_who_would_have_as_many() -> None:
    ends = Ends(Crowd(4))
    assert [ends.admit(f"10.0.0.{address}") for address in range(5)] == [True] * 4 + [False]
    assert ends.ended == []


def test_who_has_left_is_forgotten() -> None:
    crowd = Crowd(8)

    def end() -> None: ...

    assert crowd.admit("10.0.0.1", end)
    for _ in range(2):
        crowd.leave("10.0.0.1", end)
    assert crowd.statistics().connections == crowd.statistics().addresses == 0
