"""Files kept by ETag stay within their bytes."""

from __future__ import annotations

from mmplane.frontend.sources.fetched import Fetched, FetchedFiles


def test_the_oldest_go_first() -> None:
    files = FetchedFiles(bytes_max=100)
    for name in "abcd":
        files.keep(name, Fetched(name, bytes(25)))
    assert files.get("a") is not None
    files.keep("e", Fetched("e", bytes(25)))
    assert [files.get(name) is not None for name in "abcde"] == [True, False, True, True, True]
    assert files.kept_bytes == 100


def test_one_file_does_not_take_all() -> None:
    files = FetchedFiles(bytes_max=100)
    files.keep("a", Fetched("1", bytes(25)))
    files.keep("a", Fetched("2", bytes(26)))
    assert files.get("a") is None, "the old one is out of date"
    assert files.kept_bytes == 0
