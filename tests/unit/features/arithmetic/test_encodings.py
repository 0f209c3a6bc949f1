from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplane.features.arithmetic.encodings import Encoding, cast, storage_dtype, widen

RANDOM = np.random.default_rng(0)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def bits(values: torch.Tensor) -> np.ndarray:
    """A tensor's bits, whatever its dtype."""
    return values.contiguous().view(torch.uint8).numpy()


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50), st.sampled_from(sorted(DTYPES)))
def test_a_cast_has_torchs_bits_and_widens_exactly(values: list[float], encoding: Encoding) -> None:
    exact = np.array(values, np.float32)
    stored = cast(exact, encoding)
    assert stored.dtype == storage_dtype(encoding)
    expected = torch.from_numpy(exact).to(DTYPES[encoding])
    np.testing.assert_array_equal(stored.view(np.uint8), bits(expected))
    np.testing.assert_array_equal(widen(stored, encoding), expected.float().numpy())


def test_every_pattern_of_bits_is_cast_as_torch_does() -> None:
    exact = RANDOM.integers(0, 1 << 32, 1_000_000, dtype=np.uint32).view(np.float32)
    exact = exact[~np.isnan(exact)]
    expected = torch.from_numpy(exact).to(torch.bfloat16)
    np.testing.assert_array_equal(cast(exact, "bfloat16").view(np.uint8), bits(expected))


@pytest.mark.parametrize("encoding", ["bfloat16", "float16", "float32"])
def test_a_nan_stays_one(encoding: Encoding) -> None:
    low_payload = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(widen(cast(low_payload, encoding), encoding)).all()


def test_features_cannot_be_cast_to_pixels() -> None:
    with pytest.raises(ValueError, match="pixels"):
        cast(np.zeros(3, np.float32), "uint8")
