"""Llama 3.2 Vision's layers that attend to images: in chunks, beside texts without images, and for the answer."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from tiny_checkpoint import build

from mmplane.config import Config
from mmplane.core.plan import Held
from mmplane.delivery.meter import Meter
from mmplane.features.choice import choose
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.crossing import Crossing, Images
from mmplane.ranks.model.loading import _model
from mmplane.ranks.model.probe import Probe
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment
from mutation import mutated

pytestmark = pytest.mark.filterwarnings("ignore")
BLOCKS = 40
"""Of each sequence."""
CHUNK_TOKENS = 24
Loaded = tuple[Any, Probe]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder: Path = tmp_path_factory.mktemp("model")
    build(ARCHITECTURES["mllama"], folder)
    config = Config(model=str(folder), model_folder=str(folder), served_name="x", device="cpu")
    return _model(config, 0, 1, torch.device("cpu")), Probe(str(folder), "pil", choose(config))


class Requests:
    """A runner with the probe's requests: one with two images, one of text."""

    def __init__(self, loaded: Loaded) -> None:
        model, self.probe = loaded
        memory, clock = Memory(2 * BLOCKS, BLOCK_TOKENS), LoopClock(0, Meter())
        inbox = self.probe.inbox(copy=True)
        self.runner = Runner(model, inbox, memory, rank=0, device=torch.device("cpu"), clock=clock)
        for question in self.probe.questions:
            features = self.probe.features(question.submit.items, copy=True)
            *_, held = self.runner.prepare(question.submit, features)
            assert isinstance(held, Held)
            assert held.failure is None

    def compute(self, *parts: tuple[int, int, int, tuple[int, ...]]) -> torch.Tensor:
        """Logits after each (request, start, end, tokens of its answer)."""
        segments = []
        for request_id, start, end, tokens in parts:
            blocks = array("q", range(BLOCKS * request_id, BLOCKS * (request_id + 1)))
            segments.append(Segment((request_id, 0), start, end - start, tokens, 1, blocks))
        with torch.inference_mode():
            return self.runner.forward(tuple(segments))

    def expected(self, request_id: int, end: int, *tokens: int) -> torch.Tensor:
        """By the model itself, after so many tokens of the prompt, or after the prompt and these."""
        inputs = dict(self.probe.questions[request_id].inputs)
        ids = torch.cat([inputs["input_ids"], torch.tensor([tokens], dtype=torch.long)], dim=1)
        if "cross_attention_mask" in inputs:
            last = inputs["cross_attention_mask"][:, -1:].expand(-1, len(tokens), -1, -1)
            inputs["cross_attention_mask"] = torch.cat([inputs["cross_attention_mask"], last], dim=1)
        return self.runner.reference(
            inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [end + len(tokens)]
        )


def test_prompts_in_chunks_and_their_answers(loaded: Loaded) -> None:
    requests = Requests(loaded)
    lengths = [question.submit.prompt_tokens for question in requests.probe.questions]
    for start in range(0, max(lengths), CHUNK_TOKENS):
        parts = [
            (number, start, min(start + CHUNK_TOKENS, length), ())
            for number, length in enumerate(lengths)
            if start < length
        ]
        theirs = torch.cat([requests.expected(number, end) for number, _, end, _ in parts])
        torch.testing.assert_close(requests.compute(*parts), theirs, rtol=1e-4, atol=1e-4)
    for step, tokens in enumerate(([70], [70, 71])):
        parts = [(number, length + step, length + step + 1, (tokens[-1],)) for number, length in enumerate(lengths)]
        theirs = torch.cat([requests.expected(number, length, *tokens) for number, length in enumerate(lengths)])
        torch.testing.assert_close(requests.compute(*parts), theirs, rtol=1e-4, atol=1e-4)


def test_every_image_is_counted_with_its_keys_and_values(loaded: Loaded) -> None:
    requests = Requests(loaded)
    length = requests.probe.questions[0].submit.prompt_tokens
    requests.compute((0, 0, length, ()))
    (images,) = requests.runner._crossing._of.values()
    pairs = [(layer.keys, layer.values) for layer in images.cache.layers if layer.get_seq_length()]
    assert len(pairs) == requests.runner._crossing._layers.count
    kept_bytes = images.rows.nbytes + sum(keys.nbytes + values.nbytes for keys, values in pairs)
    items = len(requests.probe.questions[0].submit.items)
    assert items == 2
    assert requests.runner.sizes.item_bytes * items == kept_bytes


def test_what_has_ended_is_forgotten(loaded: Loaded) -> None:
    requests = Requests(loaded)
    assert list(requests.runner._crossing._of) == [0], "the text has no images"
    requests.runner._crossing.drop([0, 1])
    assert not requests.runner._crossing._of


@pytest.mark.parametrize(
    ("function", "piece", "instead"),
    [
        (Images.mask_of, ".clamp(max=len(self.mask) - 1)", ".clamp(max=0)"),
        (Crossing._run, "return hidden", "images = next(iter(self._of.values()))"),
        (Crossing.add, "torch.cat(list(rows))", "torch.cat(list(rows)).flip(0)"),
        (Crossing._run, '"full_text_row_masked_out_mask": whole', '"full_text_row_masked_out_mask": None'),
    ],
    ids=["another token's mask", "texts see images", "rows of another order", "tokens before images"],
)
def test_mutants(function: Callable[..., Any], piece: str, instead: str, loaded: Loaded) -> None:
    with mutated(function, piece, instead), pytest.raises(AssertionError):
        test_prompts_in_chunks_and_their_answers(loaded)
