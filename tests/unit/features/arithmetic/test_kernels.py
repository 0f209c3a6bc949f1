from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch

from mmplane.features.arithmetic import compiling, kernels


def test_nothing_compiles_on_a_requests_path() -> None:
    planes = np.empty((3, 2, 4), np.uint8)
    kernels.separate(np.zeros((2, 12), np.uint8), planes)
    with pytest.raises(TypeError, match="No matching definition"):
        kernels.separate(np.zeros((2, 12), np.int16), planes)


def test_without_a_folder_for_a_cache_each_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_without_cache = numba.njit

    def no_locator(*signatures: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_without_cache(*signatures, **options)

    monkeypatch.setattr(numba, "njit", no_locator)
    doubled = compiling.compiled(numba.types.int64(numba.types.int64))(lambda x: 2 * x)
    assert doubled(21) == 42


@pytest.mark.parametrize("kind", [kernels.LANCZOS, kernels.BILINEAR, kernels.BICUBIC])
@pytest.mark.parametrize(("size_in", "size_out"), [(100, 37), (37, 100), (1, 5), (5, 1), (4000, 7)])
def test_weights_add_up_and_stay_inside(kind: int, size_in: int, size_out: int) -> None:
    first, count, fixed = kernels.weights(size_in, size_out, kind)
    assert first.min() >= 0
    assert (first + count).max() <= size_in
    assert (np.diff(first) >= 0).all()
    assert (np.diff(first + count) >= 0).all()
    np.testing.assert_allclose(fixed.sum(axis=1), 1 << kernels.WEIGHT_BITS, atol=fixed.shape[1])


@pytest.mark.parametrize("height", [1, 15, 16, 63, 64, 65, 130])
@pytest.mark.parametrize("width", [1, 5, 16, 33, 100])
def test_a_pass_across_that_changes_nothing_gives_every_pixel_back(height: int, width: int) -> None:
    source = np.random.default_rng(0).integers(0, 256, (height, 3 * width), np.uint8)
    first, count, weights = np.arange(width, dtype=np.int32), np.ones(width, np.int32), np.zeros((width, 4), np.int32)
    weights[:, 0] = 1 << kernels.WEIGHT_BITS
    out = np.empty_like(source)
    kernels.resample_columns(source, first, count, weights, out)
    np.testing.assert_array_equal(out, source)


@pytest.mark.parametrize("taps", range(1, 14))
def test_any_number_of_rows_is_weighed_as_numpy_does(taps: int) -> None:
    random = np.random.default_rng(taps)
    source = random.integers(0, 256, (taps + 2, 99), np.uint8)
    weights = np.zeros((1, -(-taps // 4) * 4), np.int32)
    weights[0, :taps] = random.integers(-(1 << 18), 1 << 19, taps)
    out = np.empty((1, 99), np.uint8)
    kernels.resample_rows(source, np.array([1], np.int32), np.array([taps], np.int32), weights, out)
    total = weights[0, :taps].astype(np.int64) @ source[1 : 1 + taps] + (1 << (kernels.WEIGHT_BITS - 1))
    np.testing.assert_array_equal(out[0], (total >> kernels.WEIGHT_BITS).clip(0, 255))


def test_weights_that_are_no_groups_of_four_are_refused() -> None:
    source = np.zeros((4, 12), np.uint8)
    itself = np.arange(4, dtype=np.int32), np.ones(4, np.int32), np.full((4, 1), 1 << 22, np.int32)
    for resample in (kernels.resample_rows, kernels.resample_columns):
        with pytest.raises(AssertionError):
            resample(source, *itself, np.empty_like(source))


@pytest.mark.parametrize("side", [8, 9, 14, 15, 16, 17, 24])
@pytest.mark.parametrize(("moments", "moment"), [(1, 0), (2, 0), (2, 1)])
def test_bytes_are_cut_as_values_are(side: int, moments: int, moment: int) -> None:
    planes = np.random.default_rng(0).integers(0, 256, (3, 4 * side, 6 * side), np.uint8)
    patches = np.zeros((24, 3, moments, side, side), np.uint8)
    kernels.cut_bytes(planes, 2, moment, patches)
    values = np.zeros(patches.shape, np.float32)
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(256, dtype=np.float32), (3, 256)))
    kernels.cut_frame(planes, ramp, 2, moment, values)
    np.testing.assert_array_equal(patches, values)


def test_bytes_that_have_no_room_are_not_cut() -> None:
    planes = np.zeros((3, 28, 28), np.uint8)
    for shape in ((3, 3, 1, 14, 14), (5, 3, 1, 14, 14), (16, 3, 1, 7, 7)):
        with pytest.raises(AssertionError):
            kernels.cut_bytes(planes, 2, 0, np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("height", "width"), [(56, 56), (29, 70)])
@pytest.mark.parametrize(("down", "across"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 4), (5, 3), (6, 6), (36, 1), (1, 36)])
def test_shrunk_values_have_torchs_bits(height: int, width: int, down: int, across: int) -> None:
    random = np.random.default_rng(down * across)
    source = random.integers(0, 256, (down * height, 3 * across * width), np.uint8)
    table = random.normal(size=(3, 256)).astype(np.float32)
    values = np.stack([table[c][source[:, c::3]] for c in range(3)])
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None], (height, width), mode="bicubic")[0]
    out = np.empty((3, height, width), np.float32)
    kernels.shrink_values(source, table, out)
    np.testing.assert_array_equal(out.view(np.uint32), expected.numpy().view(np.uint32))


@pytest.mark.parametrize("shape", [(11, 3 * 10), (10, 3 * 10 + 1)])
def test_sides_that_are_no_multiples_are_not_shrunk(shape: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        kernels.shrink_values(
            np.zeros(shape, np.uint8), np.zeros((3, 256), np.float32), np.zeros((3, 5, 5), np.float32)
        )
