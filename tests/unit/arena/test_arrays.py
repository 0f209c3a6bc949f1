from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmplane.arena.arrays import array, content, digestible, dtype_name, library_of
from mmplane.core.records import Tensor


@pytest.mark.parametrize("library", [np, torch])
def test_an_array_lies_where_its_record_says(library: Any) -> None:
    buffer = bytearray(np.arange(40, dtype=np.float32).tobytes())
    made = array(library, Tensor("f", "float32", (2, 3), 8), buffer, 16, 64)
    assert made.tolist() == [[6, 7, 8], [9, 10, 11]]
    made[0, 0] = -1
    assert np.frombuffer(buffer, np.float32)[6] == -1


@pytest.mark.parametrize("library", [np, torch])
@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("f", "float32", (3,), 56),
        Tensor("f", "float32", (-1, -1), 0),
        Tensor("f", "save", (1,), 0),
        Tensor("f", "nothing", (1,), 0),
        Tensor("f", "float32", (2**62, 2**62), 0),
    ],
)
def test_a_record_that_does_not_fit_is_refused(library: Any, tensor: Tensor) -> None:
    with pytest.raises(ValueError):
        array(library, tensor, bytearray(128), 0, 64)


@pytest.mark.parametrize("library", [np, torch])
def test_empty_arrays_have_their_shape(library: Any) -> None:
    assert array(library, Tensor("f", "float32", (0, 7), 64), bytearray(64), 0, 64).shape == (0, 7)


@pytest.mark.parametrize("values", [np.arange(6.0).reshape(2, 3).T, torch.arange(6.0).reshape(2, 3).T])
def test_content_is_the_bytes_in_c_order(values: Any) -> None:
    assert bytes(digestible(values)) == bytes(np.ascontiguousarray(np.asarray(values)))
    assert content(values).shape == (6 * values.itemsize,)


def test_uuids() -> None:
    assert dtype_name(torch.zeros(1, dtype=torch.bfloat16)) == "bfloat16"
    assert dtype_name(np.zeros(1, np.int64)) == "int64"
    assert (library_of(torch.zeros(1)), library_of(np.zeros(1))) == (torch, np)
