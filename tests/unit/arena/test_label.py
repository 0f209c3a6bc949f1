"""A region's label: which plane it is of, and that its books have one owner."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from mmplane.arena.errors import ForeignRegion, Owned
from mmplane.arena.label import check_label, create_labelled, own, plane_of
from mmplane.arena.segment import create_region, reopen_read_only

LENGTH_BYTES = 2 * mmap.PAGESIZE
PLANE = bytes(range(16))


@pytest.fixture
def region() -> Iterator[int]:
    fd = create_labelled("test", LENGTH_BYTES, PLANE, 3)
    yield fd
    os.close(fd)


def test_a_label_names_its_plane_through_any_descriptor(region: int) -> None:
    check_label(region, LENGTH_BYTES, PLANE, 3)
    read_only = reopen_read_only(region)
    assert plane_of(read_only, LENGTH_BYTES) == PLANE
    os.close(read_only)


@pytest.mark.parametrize(
    ("length_bytes", "plane", "number"),
    [(LENGTH_BYTES, bytes(16), 3), (LENGTH_BYTES, PLANE, 2), (mmap.PAGESIZE, PLANE, 3), (4 * LENGTH_BYTES, PLANE, 3)],
)
def test_another_label_is_refused(region: int, length_bytes: int, plane: bytes, number: int) -> None:
    with pytest.raises(ForeignRegion):
        check_label(region, length_bytes, plane, number)


def test_a_region_without_a_label_is_of_no_plane() -> None:
    fd = create_region("test", LENGTH_BYTES)
    with pytest.raises(ForeignRegion):
        plane_of(fd, mmap.PAGESIZE)
    os.close(fd)


def test_a_region_has_one_owner_whoever_asks_by_whichever_descriptor(region: int) -> None:
    again = os.open(f"/proc/self/fd/{region}", os.O_RDWR)
    own(region, LENGTH_BYTES)
    for fd in (region, again):
        with pytest.raises(Owned):
            own(fd, LENGTH_BYTES)
    os.close(again)
    check_label(region, LENGTH_BYTES, PLANE, 3)
