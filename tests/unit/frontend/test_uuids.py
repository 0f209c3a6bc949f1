"""Uuids lead to what was last sent under them, for a tenant and a modality; the table is bounded."""

from __future__ import annotations

import pytest

from mmplane.core.errors import RequestError
from mmplane.frontend.sources.uuids import Uuids


def is_missing(names: Uuids, name: str, **of: str) -> bool:
    with pytest.raises(RequestError) as caught:
        names.digest(name, "image", **of)
    return (caught.value.status, caught.value.code) == (404, "media_not_held")


def test_a_name_leads_to_what_was_sent_last() -> None:
    names = Uuids()
    assert is_missing(names, "cat")
    names.remember("cat", "image", b"one")
    names.remember("cat", "image", b"other")
    assert names.digest("cat", "image") == b"other"


def test_names_are_a_tenants_and_a_modalitys_own() -> None:
    names = Uuids()
    names.remember("cat", "image", b"mine", tenant="me")
    names.remember("cat", "video", b"clip", tenant="you")
    assert is_missing(names, "cat", tenant="you")
    assert is_missing(names, "cat")
    assert names.digest("cat", "image", tenant="me") == b"mine"


def test_the_name_that_was_used_longest_ago_goes_first() -> None:
    names = Uuids(uuids_max=2)
    names.remember("a", "image", b"a")
    names.remember("b", "image", b"b")
    assert names.digest("a", "image") == b"a"
    names.remember("c", "image", b"c")
    assert is_missing(names, "b")
    assert (names.digest("a", "image"), names.digest("c", "image")) == (b"a", b"c")
    assert names.statistics() == {"names": 2}


def test_a_tenants_many_names_push_out_nobody_elses() -> None:
    uuids = Uuids(uuids_max=10)
    for number in range(4):
        uuids.remember(f"mine{number}", "image", b"mine", tenant="me")
    for number in range(1000):
        uuids.remember(f"{number}", "image", b"yours", tenant="you")
    assert [uuids.digest(f"mine{number}", "image", tenant="me") for number in range(4)] == [b"mine"] * 4
    assert uuids.statistics() == {"names": 10}
    for number in range(1000):
        uuids.remember(f"{number}", "image", b"mine", tenant="me")
    assert uuids.digest("999", "image", tenant="you") == b"yours", "half is left to each"
    assert uuids.statistics() == {"names": 10}
