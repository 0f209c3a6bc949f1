from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from mmplane.features.encodings import ByteForm, Encoding, cast, storage_dtype, widen
from mmplane.features.rebuild import Rebuild

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(3, 256)).astype(np.float32)
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


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("run", [1, 196])
def test_rebuilding_in_numpy_and_in_torch_is_looking_up_and_repeating(copies: int, run: int) -> None:
    form = ByteForm(TABLE, run, copies)
    stored = RANDOM.integers(0, 256, (5, 3 * run), dtype=np.uint8)
    expected = np.empty((5, 3, copies, run), np.float32)
    for channel in range(3):
        expected[:, channel] = TABLE[channel][stored.reshape(5, 3, 1, run)[:, channel]]
    out = np.empty((5, 3 * copies * run), np.float32)
    form.rebuild(stored, out)
    np.testing.assert_array_equal(out, expected.reshape(out.shape))
    for dtype in DTYPES.values():
        rebuilt = Rebuild(form, dtype)(torch.from_numpy(stored)).reshape(out.shape)
        assert rebuilt.shape == out.shape
        np.testing.assert_array_equal(bits(rebuilt), bits(torch.from_numpy(out).to(dtype)))


def test_what_a_gpu_compiles_is_one_graph_for_any_number_of_patches() -> None:
    form, counter = ByteForm(TABLE, 196, 2), CompileCounter()
    compiled, plain = Rebuild(form, torch.bfloat16, backend=counter), Rebuild(form, torch.bfloat16)
    for patches in (4, 5, 640):
        stored = torch.from_numpy(RANDOM.integers(0, 256, (patches, 588), dtype=np.uint8))
        np.testing.assert_array_equal(bits(compiled(stored)), bits(plain(stored)))
    assert counter.frame_count == 1, "compiled once, when it was made"


def test_without_a_compiler_it_is_looked_up_as_on_a_cpu(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    form = ByteForm(TABLE, 4, 1)
    stored = torch.arange(24, dtype=torch.uint8).reshape(2, 12)
    with caplog.at_level("WARNING", logger="mmplane"):
        rebuild = Rebuild(form, torch.float32, backend=broken)
    np.testing.assert_array_equal(bits(rebuild(stored)), bits(Rebuild(form, torch.float32)(stored)))
    assert "several kernels" in caplog.text
