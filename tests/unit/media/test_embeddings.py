"""Embeddings from clients (hazard S9): what the model takes is copied bit by bit, and all else is a 400."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mmplane.core.errors import RequestError
from mmplane.core.records import Ask
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import views
from mmplane.features.contract.embeddings import EMBEDDINGS, GRID, EmbeddingForm
from mmplane.media import embeddings
from mmplane.media.embeddings import HEADER_BYTES_MAX, arrays
from mmplane.media.materialise import examine, materialise, recode
from mutation import Mutant, check_it_is_killed

TOKENS, WIDTH = 6, 4
GRIDDED = EmbeddingForm(token_id=7, width=WIDTH, merge=2)
PLAIN = EmbeddingForm(token_id=7, width=WIDTH, merge=0)
ROWS = torch.arange(TOKENS * WIDTH, dtype=torch.float32).reshape(TOKENS, WIDTH) / 3
SIDES = torch.tensor([[1, 4, 6]])
Named = dict[str, torch.Tensor]


def sent(rows: torch.Tensor = ROWS, grid: torch.Tensor | None = SIDES, **more: torch.Tensor) -> bytes:
    gridded: Named = {} if grid is None else {GRID: grid}
    return save({EMBEDDINGS: rows.contiguous(), **gridded, **more})


def taken(content: bytes, form: EmbeddingForm = GRIDDED) -> tuple[Any, dict[str, Any]]:
    """The recipe, and the arrays that are written by it."""
    processors = Processors("float32", embeddings=form)
    recipe = examine(processors, content, Ask("image", embedded=True))
    out = bytearray(recipe.layout.length_bytes)
    made = materialise(processors, content, recipe, memoryview(out))
    assert made.bytes_written == sum(array.nbytes for array in views(recipe.layout.tensors, memoryview(out)).values())
    assert recode(processors, recipe, content) == recipe
    return recipe, views(recipe.layout.tensors, memoryview(out))


def refused(content: bytes, form: EmbeddingForm = GRIDDED) -> str:
    with pytest.raises(RequestError) as error:
        taken(content, form)
    assert (error.value.status, error.value.code, error.value.param) == (400, "invalid_media", EMBEDDINGS)
    return error.value.message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_the_model_takes_is_copied_bit_by_bit(dtype: torch.dtype) -> None:
    rows = ROWS.to(dtype)
    recipe, written = taken(sent(rows))
    assert recipe.layout.tensors[0].name == EMBEDDINGS
    assert recipe.layout.tensors[0].dtype == str(dtype).removeprefix("torch.")
    assert recipe.layout.expansion == ((7, TOKENS),)
    assert written[EMBEDDINGS].tobytes() == rows.view(torch.uint8).numpy().tobytes()
    assert written[GRID].tolist() == SIDES.tolist()


def test_a_model_without_a_grid_takes_none() -> None:
    recipe, written = taken(sent(grid=None), PLAIN)
    assert list(written) == [EMBEDDINGS]
    assert recipe.layout.expansion == ((7, TOKENS),)
    assert "exactly image_embeds" in refused(sent(), PLAIN)


def test_metadata_and_order_do_not_matter() -> None:
    content = save({GRID: SIDES, EMBEDDINGS: ROWS}, metadata={"made": "by a client"})
    assert taken(content)[1][EMBEDDINGS].tolist() == ROWS.tolist()


WRONG: dict[str, Callable[[], bytes]] = {
    "another width": lambda: sent(ROWS[:, :3]),
    "one dimension": lambda: sent(ROWS.flatten()),
    "three dimensions": lambda: sent(ROWS[None]),
    "no tokens": lambda: sent(ROWS[:0]),
    "whole numbers": lambda: sent(ROWS.long()),
    "doubles": lambda: sent(ROWS.double()),
    "no number": lambda: sent(ROWS.where(ROWS != 1, torch.nan)),
    "infinite": lambda: sent(ROWS.where(ROWS != 1, -torch.inf)),
    "infinite halves": lambda: sent((ROWS.where(ROWS != 1, torch.inf)).half()),
    "no number in bfloat16": lambda: sent(ROWS.where(ROWS != 1, torch.nan).bfloat16()),
    "no grid": lambda: sent(grid=None),
    "something else too": lambda: sent(pixel_values=ROWS.clone()),
    "a grid of other tokens": lambda: sent(grid=torch.tensor([[1, 4, 4]])),
    "a grid that is not merged": lambda: sent(grid=torch.tensor([[1, 3, 8]])),
    "a grid in time": lambda: sent(grid=torch.tensor([[2, 2, 6]])),
    "a grid of nothing": lambda: sent(grid=torch.tensor([[1, 0, 24]])),
    "a negative grid": lambda: sent(grid=torch.tensor([[1, -4, -6]])),
    "two grids": lambda: sent(grid=SIDES.repeat(2, 1)),
    "a grid of floats": lambda: sent(grid=SIDES.float()),
    "a pickle": lambda: pickle.dumps(ROWS.tolist()),
    "nothing": lambda: b"",
    "half a length": lambda: sent()[:4],
    "half a header": lambda: sent()[:40],
    "half the arrays": lambda: sent()[:-8],
    "more after the arrays": lambda: sent() + bytes(8),
    "a header without end": lambda: (2**63).to_bytes(8, "little") + sent()[8:],
    "a long header": lambda: save({EMBEDDINGS: ROWS, GRID: SIDES}, metadata={"x": "y" * HEADER_BYTES_MAX}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_model_does_not_take_is_refused(name: str) -> None:
    content = WRONG[name]()
    message = refused(content)
    assert len(message) < 200, "nothing of the file is in the message"


def headed(header: Any, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


ENTRY = {"dtype": "F32", "shape": [TOKENS, WIDTH], "data_offsets": [0, 96]}
SMALL = {"dtype": "I64", "shape": [3], "data_offsets": [96, 120]}
BODY = ROWS.numpy().tobytes() + SIDES.numpy().tobytes()


def test_a_header_of_our_own_is_read() -> None:
    assert taken(headed({EMBEDDINGS: ENTRY, GRID: SMALL}, BODY))


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY | {"data_offsets": [0, 92]},
        ENTRY | {"data_offsets": [96, 0]},
        ENTRY | {"data_offsets": [-4, 92]},
        ENTRY | {"data_offsets": [24, 120]},
        ENTRY | {"data_offsets": [0, 2**60]},
        ENTRY | {"shape": [TOKENS, WIDTH + 1]},
        ENTRY | {"shape": [2**40, 2**40]},
        ENTRY | {"shape": [-6, -4]},
        ENTRY | {"shape": [1, 1, 1, TOKENS, WIDTH]},
        ENTRY | {"shape": ["6", "4"]},
        ENTRY | {"dtype": "F8_E4M3"},
        ENTRY | {"more": 1},
        {"dtype": "F32"},
        [],
    ],
)
def test_a_header_that_lies_is_refused(entry: Any) -> None:
    refused(headed({EMBEDDINGS: entry, GRID: SMALL}, BODY))


def test_unless_the_operator_takes_them_they_are_refused() -> None:
    with pytest.raises(RequestError, match="does not accept embeddings") as error:
        examine(Processors("float32"), sent(), Ask("image", embedded=True))
    assert (error.value.status, error.value.code) == (400, "unsupported_parameter")


def test_arrays_lie_in_the_file() -> None:
    content = np.frombuffer(sent(), np.uint8)
    assert np.shares_memory(content, np.frombuffer(arrays(content.data)[EMBEDDINGS].content, np.uint8))


CHECKS = (
    Mutant(
        "any width is taken",
        embeddings.examine,
        "or embeddings.shape[1] != form.width",
        "",
        test_what_the_model_does_not_take_is_refused,
        ("another width",),
    ),
    Mutant(
        "values are not looked at",
        embeddings.write,
        "not _is_finite(sent.content, sent.dtype)",
        "False",
        test_what_the_model_does_not_take_is_refused,
        ("no number in bfloat16",),
    ),
    Mutant(
        "arrays may overlap",
        embeddings._check_offsets,
        "begin != end_bytes or ",
        "",
        test_a_header_that_lies_is_refused,
        (ENTRY | {"data_offsets": [24, 120]},),
    ),
    Mutant(
        "the grid is believed",
        GRIDDED.check_grid.__func__,  # type: ignore[attr-defined]
        "not whole or height * width != tokens * self.merge**2",
        "not whole",
        test_what_the_model_does_not_take_is_refused,
        ("a grid of other tokens",),
    ),
    Mutant(
        "a header may be as long as it likes",
        embeddings.arrays,
        "or header_bytes > HEADER_BYTES_MAX ",
        "",
        test_what_the_model_does_not_take_is_refused,
        ("a long header",),
    ),
)


@pytest.mark.parametrize("mutant", CHECKS, ids=str)
def test_each_check_is_tested(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
