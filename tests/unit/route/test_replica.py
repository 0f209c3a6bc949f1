"""Replicas by URL, and the ids that decide where they stand on the ring."""

from __future__ import annotations

import itertools

import pytest

from mmplane.route.replica import IDS, REPLICAS_MAX, Replica, numbered


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1:8000"),
        ("http://10.0.0.1:8000/", "10.0.0.1:8000"),
        ("http://Replica-1.pool", "replica-1.pool:80"),
        ("http://[fd00::1]:8000", "fd00::1:8000"),
    ],
)
def test_a_url_names_a_replica(url: str, name: str) -> None:
    assert (Replica.of(url).name, Replica.of(url).tls) == (name, "")


@pytest.mark.parametrize(
    ("url", "name"), [("https://Replica-1.pool:8443", "replica-1.pool:8443"), ("https://pool/", "pool:443")]
)
def test_a_url_with_tls_names_the_certificate(url: str, name: str) -> None:
    assert Replica.of(url).name == name
    assert Replica.of(url).tls == name.split(":")[0]


@pytest.mark.parametrize(
    "url",
    [
        "10.0.0.1:8000",
        "https://10.0.0.1:8000",
        "https://[fd00::1]:8000",
        "ftp://replica:8000",
        "http://",
        "http://host:99999",
        "http://user:secret@host:1",
        "http://host/v1",
        "http://host?x=1",
        "http://ho st:1",
        "http://host\n  option x:1",
        "http://host';x:1",
        "http://[::1",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--replica"):
        Replica.of(url)


def test_ids_do_not_depend_on_the_order() -> None:
    replicas = [Replica(f"replica-{number}", 8000) for number in range(4)]
    found = [numbered(order) for order in itertools.permutations(replicas)]
    assert all(each == found[0] for each in found)
    assert len(set(found[0].values())) == 4
    assert all(0 < number < IDS for number in found[0].values())


def test_a_taken_id_is_not_given_again() -> None:
    replica = Replica("replica", 8000)
    first = numbered([replica])[replica]
    assert numbered([replica], [first])[replica] == first + 1


def test_there_is_a_limit() -> None:
    numbered([Replica("host", port) for port in range(1, REPLICAS_MAX + 1)])
    with pytest.raises(ValueError, match=f"at most {REPLICAS_MAX}"):
        numbered([Replica("host", port) for port in range(1, REPLICAS_MAX + 2)])
    with pytest.raises(ValueError, match=f"at most {REPLICAS_MAX}"):
        numbered([Replica("host", 1)], range(REPLICAS_MAX))
