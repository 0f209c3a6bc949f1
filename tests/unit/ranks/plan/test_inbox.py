"""A rank's window on the arena: what was written is what the model sees, in place, and nothing beyond the slot."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3

from mmplane.arena.segment import RegionMapping, create_region, reopen_read_only
from mmplane.core.records import Item, Slot, Tensor
from mmplane.ranks.plan.inbox import Inbox, digest

LENGTH_BYTES = mmap.PAGESIZE

pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # it is not meant to be


class Regions:
    """Two regions as their writers see them, and the same two as a rank does."""

    def __init__(self) -> None:
        descriptors = [create_region(f"test-{number}", LENGTH_BYTES) for number in range(2)]
        read_only = [reopen_read_only(descriptor) for descriptor in descriptors]
        self.written = [RegionMapping(descriptor, LENGTH_BYTES, writable=True) for descriptor in descriptors]
        self.read = [RegionMapping(descriptor, LENGTH_BYTES, writable=False) for descriptor in read_only]
        for descriptor in (*descriptors, *read_only):
            os.close(descriptor)

    def write(self, slot: Slot, content: bytes) -> None:
        self.written[slot.region].view(slot.offset_bytes, len(content))[:] = content


@pytest.fixture
def regions() -> Regions:
    return Regions()  # not closed: tensors are views of them, and the mappings go with the last of these


def item(slot: Slot, *tensors: Tensor) -> Item:
    return Item(b"key", "image", slot, tensors)


SLOT = Slot(1, 128, 640, 9)


def test_tensors_are_what_was_written(regions: Regions) -> None:
    pixels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    grid = np.array([[1, 2, 3]], dtype=np.int64)
    regions.write(SLOT, pixels.tobytes().ljust(256, b"\0") + grid.tobytes())
    tensors = Inbox(regions.read).tensors(
        item(SLOT, Tensor("pixel_values", "float32", (3, 4, 5), 0), Tensor("grid", "int64", (1, 3), 256))
    )
    assert list(tensors) == ["pixel_values", "grid"]
    np.testing.assert_array_equal(tensors["pixel_values"].numpy(), pixels)
    np.testing.assert_array_equal(tensors["grid"].numpy(), grid)
    assert tensors["pixel_values"].is_contiguous()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int32, torch.int64, torch.bool]
)
def test_every_dtype_that_features_have(regions: Regions, dtype: torch.dtype) -> None:
    written = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    regions.write(SLOT, written.contiguous().view(torch.uint8).numpy().tobytes())
    name = str(dtype).removeprefix("torch.")
    (read,) = Inbox(regions.read).tensors(item(SLOT, Tensor("x", name, (2, 3), 0))).values()
    assert read.dtype == dtype
    assert torch.equal(read, written)


def test_a_scalar_has_a_shape_too(regions: Regions) -> None:
    regions.write(SLOT, np.float32(7).tobytes())
    (read,) = Inbox(regions.read).tensors(item(SLOT, Tensor("x", "float32", (), 0))).values()
    assert (read.shape, read.item()) == ((), 7)


def test_it_is_a_view_and_not_a_copy(regions: Regions) -> None:
    (read,) = Inbox(regions.read).tensors(item(SLOT, Tensor("x", "uint8", (4,), 8))).values()
    regions.write(SLOT, b"01234567" + bytes([1, 2, 3, 4]))
    assert read.tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        np.frombuffer(Inbox(regions.read).content(SLOT), np.uint8)[0] = 1


def test_copies_are_private(regions: Regions) -> None:
    """For a model that writes into its inputs: it may, and neither the arena nor another rank sees it."""
    regions.write(SLOT, bytes([1, 2, 3, 4]))
    inbox = Inbox(regions.read, copy=True)
    (one,), (other,) = (inbox.tensors(item(SLOT, Tensor("x", "uint8", (4,), 0))).values() for _ in range(2))
    one.add_(1)
    regions.write(SLOT, bytes([9, 9, 9, 9]))
    assert (one.tolist(), other.tolist()) == ([2, 3, 4, 5], [1, 2, 3, 4])


@pytest.mark.parametrize("copy", [False, True])
def test_the_digest_is_of_the_tensors_bytes(regions: Regions, copy: bool) -> None:
    features = np.linspace(-1, 1, 60, dtype=np.float32)
    regions.write(SLOT, bytes(64) + features.tobytes() + b"more")
    (read,) = Inbox(regions.read, copy=copy).tensors(item(SLOT, Tensor("x", "float32", (3, 20), 64))).values()
    assert digest(read) == blake3(features.tobytes()).digest()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.int64])
def test_the_digest_is_in_the_tensors_own_dtype(dtype: torch.dtype) -> None:
    features = torch.arange(12).reshape(3, 4).to(dtype)
    assert digest(features) == blake3(features.view(torch.uint8).numpy().tobytes()).digest()
    assert digest(features.T) == digest(features.T.contiguous()) != digest(features), "C order, whatever the strides"


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", "uint8", (641,), 0),
        Tensor("x", "float32", (160,), 1),
        Tensor("x", "float32", (4, 41), 0),
        Tensor("x", "uint8", (1,), 640),
        Tensor("x", "float32", (1,), 1 << 62),
        Tensor("x", "float32", (1 << 31, 1 << 31), 0),
    ],
)
def test_a_tensor_beyond_its_slot_is_refused(regions: Regions, tensor: Tensor) -> None:
    """Also where the bytes behind the slot are inside the region: they are somebody else's."""
    with pytest.raises(ValueError, match="slot"):
        Inbox(regions.read).tensors(item(SLOT, tensor))


@pytest.mark.parametrize(
    "tensor",
    [Tensor("x", "float32", (-1,), 0), Tensor("x", "float32", (-2, -3), 0), Tensor("x", "float32", (1 << 32,) * 2, 0)],
)
def test_a_shape_that_is_none_is_refused(regions: Regions, tensor: Tensor) -> None:
    with pytest.raises(ValueError):
        Inbox(regions.read).tensors(item(SLOT, tensor))


@pytest.mark.parametrize("dtype", ["float31", "Tensor", "nn", "load", "", "__name__"])
def test_what_is_no_dtype_is_refused(regions: Regions, dtype: str) -> None:
    with pytest.raises(ValueError, match="dtype"):
        Inbox(regions.read).tensors(item(SLOT, Tensor("x", dtype, (1,), 0)))


@pytest.mark.parametrize(
    "slot",
    [Slot(0, LENGTH_BYTES, 1, 1), Slot(0, 0, LENGTH_BYTES + 1, 1), Slot(1, 1 << 62, 1 << 62, 1), Slot(2, 0, 1, 1)],
)
def test_a_slot_outside_of_the_regions_is_refused(regions: Regions, slot: Slot) -> None:
    inbox = Inbox(regions.read)
    calls: list[Any] = [inbox.content, lambda slot: inbox.tensors(item(slot, Tensor("x", "uint8", (1,), 0)))]
    for call in calls:
        with pytest.raises(ValueError):
            call(slot)
