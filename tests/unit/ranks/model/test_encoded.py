"""Embeddings on one rank, with the built-in model: what is kept, what passes, and whose they are."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMultimodalLM

from mmplane.core.plan import Held, Sampling, Submit
from mmplane.core.records import Item, Slot
from mmplane.delivery.delivery import Features
from mmplane.features.contract.arrays import views
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.select import image_processor
from mmplane.models.tiny import build_tiny, random_weights
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.encoded import Encoded
from mmplane.ranks.model.probe import runs_of
from mmplane.ranks.model.prompt import Prompt
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment, Step
from mutation import Mutant, check_it_is_killed

BLOCKS = 32
WIDTH, HEIGHT = 84, 56
ONE, OTHER = b"one picture", b"other one"


class Rank:
    """A runner over the model, and pictures by content key."""

    def __init__(self, model: Any, processor: ImageProcessor) -> None:
        self.processor = processor
        self.layout = processor.layout(WIDTH, HEIGHT)
        clock = LoopClock(0)
        memory = Memory(BLOCKS, BLOCK_TOKENS)
        self.runner = Runner(model, Inbox([], copy=False), memory, rank=0, device=torch.device("cpu"), clock=clock)
        self.runner._row_bytes = 10**6
        self.plans = 0

    def features(self, key: bytes) -> Features:
        pixels = np.random.default_rng(list(key)).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        arrays = views(self.layout.tensors, memoryview(bytearray(self.layout.length_bytes)))
        self.processor.write(pixels, arrays)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def submit(self, request_id: int, keys: list[bytes]) -> Submit:
        expansion = [token for token, count in self.layout.expansion for _ in range(count)]
        ids = np.array([5, *(token for _ in keys for token in (*expansion, 6))], np.int32)
        runs = runs_of(ids, self.processor.placeholder_id)
        items = tuple(Item(key, "image", Slot(0, 0, self.layout.length_bytes, 0), self.layout.tensors) for key in keys)
        sampling = Sampling(1, 0.0, 1.0, 0, 1)
        return Submit(request_id, ids.tobytes(), None, len(ids), items, tuple((run,) for run in runs), sampling)

    def prepare(self, submit: Submit, keep: frozenset[int] = frozenset()) -> int:
        """How many items were encoded."""
        *_, held = self.runner.prepare(submit, [self.features(item.content_key) for item in submit.items], keep=keep)
        assert isinstance(held, Held)
        assert held.failure is None
        return held.work.encoded

    def compute(self, submit: Submit, start: int, count: int) -> None:
        self.plans += 1
        blocks = array("q", range(BLOCKS))
        segments = (Segment((submit.request_id, 0), start, count, (), 0, blocks),) if count else ()
        gone = () if count else (submit.request_id,)
        self.runner.run(Step(self.plans, (), gone, (), segments, ()))

    def rows(self, submit: Submit) -> list[torch.Tensor]:
        return [each.rows for each in self.runner._prompts[submit.request_id].embeddings]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ImageProcessor]:
    folder: Path = tmp_path_factory.mktemp("models")
    save_file(random_weights(), folder / "random.safetensors", metadata={"format": "pt"})
    build_tiny(folder / "tiny", weights=folder / "random.safetensors")
    model = AutoModelForMultimodalLM.from_pretrained(folder / "tiny", dtype=torch.float32, attn_implementation="sdpa")
    return model.eval(), image_processor(str(folder / "tiny"), verdict="same")


@pytest.fixture
def rank(parts: tuple[Any, ImageProcessor]) -> Rank:
    return Rank(*parts)


def test_each_request_gets_the_embeddings_of_its_own_pictures(rank: Rank) -> None:
    fresh = {}
    for number, key in enumerate((ONE, OTHER)):
        submit = rank.submit(number, [key])
        assert rank.prepare(submit) == 1
        fresh[key] = rank.rows(submit)[0]
    assert not torch.equal(fresh[ONE], fresh[OTHER])
    both = rank.submit(2, [ONE, OTHER, ONE])
    assert rank.prepare(both, keep=frozenset({0, 1, 2})) == 2
    again = rank.submit(3, [OTHER, ONE])
    assert rank.prepare(again, keep=frozenset({0, 1})) == 0
    for submit in (both, again):
        for item, rows in zip(submit.items, rank.rows(submit), strict=True):
            assert torch.equal(rows, fresh[item.content_key])


def test_what_is_forgotten_is_encoded_again_and_its_bytes_come_back(rank: Rank) -> None:
    first = rank.submit(1, [ONE])
    rank.prepare(first, keep=frozenset({0}))
    kept_bytes = sum(rows.nbytes for rows in rank.rows(first))
    assert rank.runner.embedding_bytes == (kept_bytes, 0)
    rank.runner.forget([OTHER, ONE, ONE])
    assert rank.runner.embedding_bytes == (0, 0)
    assert rank.prepare(rank.submit(2, [ONE]), keep=frozenset({0})) == 1


def test_rows_that_pass_go_with_the_last_of_them_that_is_computed(rank: Rank) -> None:
    passing, kept = rank.submit(1, [ONE, OTHER]), rank.submit(2, [ONE, OTHER])
    rank.prepare(passing)
    rank.prepare(kept, keep=frozenset({0, 1}))
    each_bytes = rank.rows(passing)[0].nbytes
    assert rank.runner.embedding_bytes == (2 * each_bytes, 2 * each_bytes)
    ((start, length),), _ = passing.placeholders
    first_end = start + length
    for begin, count, left in ((0, first_end - 1, 2), (first_end - 1, 1, 1), (first_end, passing.prompt_tokens, 0)):
        count = min(count, passing.prompt_tokens - begin)
        rank.compute(passing, begin, count)
        rank.compute(kept, begin, count)
        assert rank.runner.embedding_bytes == (2 * each_bytes, left * each_bytes)
    assert len(rank.rows(kept)) == 2, "its prompt can be computed again"
    rank.compute(kept, 0, 0)
    assert rank.runner.embedding_bytes == (2 * each_bytes, 0)


def test_what_is_kept_owns_no_more_memory_than_it_counts() -> None:
    encoded, wide = Encoded(), torch.ones(8, 4)
    rows = encoded.keep(ONE, wide[:2])
    assert rows.untyped_storage().nbytes() == encoded.kept_bytes == 2 * 4 * 4


OWN = test_each_request_gets_the_embeddings_of_its_own_pictures
PASSING = test_rows_that_pass_go_with_the_last_of_them_that_is_computed
MUTANTS = (
    Mutant("the key", Encoded.get, "self._kept.get(key)", "next(iter(self._kept.values()), None)", OWN),
    Mutant(
        "whose they are",
        Runner.prepare,
        "self._encoded.get(item.content_key)",
        "self._encoded.get(submit.items[0].content_key)",
        OWN,
    ),
    Mutant("letting go", Prompt.computed, "each.kept or each.end > end", "True", PASSING),
    Mutant("holding on", Prompt.computed, "each.kept or ", "", PASSING),
    Mutant(
        "the count",
        Encoded.forget,
        "self._kept_bytes -= rows.nbytes",
        "pass",
        test_what_is_forgotten_is_encoded_again_and_its_bytes_come_back,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_rank_without_it_is_found_out(mutant: Mutant, rank: Rank, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
