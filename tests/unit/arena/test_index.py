"""Order of use, per region."""

from __future__ import annotations

import pytest
from arena_machine import item_of

from mmplane.arena.index import Index
from mmplane.core.records import Slot


def filled() -> Index:
    index = Index(2)
    for number, (key, region) in enumerate([(b"a", 0), (b"b", 1), (b"c", 0)]):
        index.add(key, item_of(key, Slot(region, 0, 1, number)))
    return index


def order(index: Index, region: int) -> list[bytes]:
    return [key for key, _ in index.oldest_first(region)]


def test_lookup_makes_an_item_the_most_recent_and_get_does_not() -> None:
    index = filled()
    assert order(index, 0) == [b"a", b"c"]
    assert index.get(b"a") is not None
    assert order(index, 0) == [b"a", b"c"]
    assert index.lookup(b"a") == index.get(b"a")
    assert order(index, 0) == [b"c", b"a"]
    assert order(index, 1) == [b"b"]
    index.check_integrity()


def test_hits_and_misses_are_counted() -> None:
    index = filled()
    assert index.lookup(b"nobody") is None
    index.lookup(b"a")
    index.get(b"a")
    assert (index.hits, index.misses) == (1, 1)


def test_a_key_is_added_once_and_removed_once() -> None:
    index = filled()
    with pytest.raises(AssertionError):
        index.add(b"a", item_of(b"a", Slot(1, 0, 1, 9)))
    index.remove(b"a")
    assert (index.get(b"a"), len(index)) == (None, 2)
    with pytest.raises(KeyError):
        index.remove(b"a")
    index.check_integrity()
