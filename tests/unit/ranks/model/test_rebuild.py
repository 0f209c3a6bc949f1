from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from mmplane.features.arithmetic.encodings import ByteForm
from mmplane.ranks.model.rebuild import Rebuild

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(3, 256)).astype(np.float32)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def bits(values: torch.Tensor) -> np.ndarray:
    """A tensor's bits, whatever its dtype."""
    return values.contiguous().view(torch.uint8).numpy()


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
    assert "into one kernel" in caplog.text
