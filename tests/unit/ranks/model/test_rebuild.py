from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from mmplane.features.arithmetic.encodings import ByteForm
from mmplane.ranks.model.rebuild import Rebuild
from mutation import Mutant, check_it_is_killed

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


PATCHES = [(4, 588), (5, 588), (640, 588), (1, 588)]
TILES = [(5, 3, 32, 32), (1, 3, 32, 32), (13, 3, 32, 32), (2, 3, 28, 56), (3, 56, 28), (1, 4, 3, 8, 8)]
"""InternVL's and others': one tile and several, of two sizes, without a side for tiles and with one more."""


@pytest.mark.parametrize(("run", "copies", "shapes"), [(196, 2, PATCHES), (0, 1, TILES)], ids=["patches", "tiles"])
def test_what_a_gpu_compiles_is_compiled_before_any_request(
    run: int, copies: int, shapes: list[tuple[int, ...]]
) -> None:
    torch._dynamo.reset()  # a function is compiled for a limited number of callers
    form, counter = ByteForm(TABLE, run, copies), CompileCounter()
    compiled, plain = Rebuild(form, torch.bfloat16, backend=counter), Rebuild(form, torch.bfloat16)
    at_start = counter.frame_count
    for shape in shapes:
        stored = torch.from_numpy(RANDOM.integers(0, 256, shape, dtype=np.uint8))
        np.testing.assert_array_equal(bits(compiled(stored)), bits(plain(stored)))
    assert counter.frame_count == at_start > 0


def test_a_picture_of_one_tile_is_tried_as_well(request: pytest.FixtureRequest) -> None:
    killer = test_what_a_gpu_compiles_is_compiled_before_any_request
    check_it_is_killed(
        Mutant("one tile", Rebuild._compiled, "in TRIAL_PLACES", "in (8,)", killer, (0, 1, TILES)), request
    )


def test_without_a_compiler_it_is_looked_up_as_on_a_cpu(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    form = ByteForm(TABLE, 4, 1)
    stored = torch.arange(24, dtype=torch.uint8).reshape(2, 12)
    with caplog.at_level("WARNING", logger="mmplane"):
        rebuild = Rebuild(form, torch.float32, backend=broken)
    np.testing.assert_array_equal(bits(rebuild(stored)), bits(Rebuild(form, torch.float32)(stored)))
    assert "into one kernel" in caplog.text
