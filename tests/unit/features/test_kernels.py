from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from mmplane.features import kernels


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
    doubled = kernels._compiled(numba.types.int64(numba.types.int64))(lambda x: 2 * x)
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
