"""The probe: before a rank serves, runs prompts with real pictures and compares them with the model's forward pass.

It finds two kinds of problems before a user's request does. A model that writes into its inputs dies on the read-only
page (the supervisor then starts the group again with copies). A model whose answers depend on something that packed
segments do not provide (for example, picture tokens that attend to each other) gives different logits, and is rejected.

The reference gets everything that the checkpoint's own processor makes of text and pictures. The prompts are longer
than every window of the model, which are narrowed for the comparison, and longer than several chunks.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmplane.arena.segment import RegionMapping, create_region, reopen_read_only
from mmplane.core.plan import Held, Sampling, Submit
from mmplane.core.records import BackendName, Item, Layout, Modality, Slot
from mmplane.delivery.delivery import Features
from mmplane.features.adjusted import adjusted
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays, views
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.facts import MODALITIES, Facts
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.ranks.model.anatomy import Unsupported
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.room import Sizes
from mmplane.ranks.plan.runs import Run, image_runs, whole
from mmplane.ranks.plan.step import Segment

SIZES = ((112, 84), (70, 126))
"""Width and height in pixels of the pictures."""
TEXT = "The quick brown fox jumps over the lazy dog, 1234 times. "
CHUNK_TOKENS = 24
WINDOW_TOKENS = 16
"""The width to which windows are narrowed."""
WINDOWS = ("sliding_window", "attention_chunk_size")
TOLERANCE = 1e-3
"""The largest difference of logits, relative to the largest logit: float32 in another order gives about 1e-6."""
NOISE_FACTOR = 3
"""In a shorter dtype, this many times the difference between the model's own forward pass and itself in two chunks, and
at least one rounding of a logit."""
GIVEN = frozenset({"input_ids", "attention_mask", "mm_token_type_ids"})
"""What segments give a model, in addition to its items' arrays."""
TARGETS = frozenset({"labels"})
"""What a processor gives only for training."""
PAGE_BYTES = 4096

Inputs = Mapping[str, torch.Tensor]
Write = Callable[[Arrays], int]


@dataclass(frozen=True)
class Question:
    """One prompt: as a request, and as input for the model's own forward pass. `name` describes it in errors."""

    name: str
    submit: Submit
    inputs: Inputs


class Probe:
    """Questions, with the features of their items in a read-only region."""

    def __init__(self, model_folder: str, backend: BackendName, processors: Processors) -> None:
        facts = Facts.of(model_folder)
        token = facts.tokens[processors.probed]
        if processors.image is None:
            trials = [_sound(processors)]
            items, self.mapping = _laid_down("audio", trials)
            self.questions = [_about_sound(items[0], trials[0][0], token, self.features(items, copy=True))]
            return
        among = adjusted(processors, "image", facts.several).for_images
        trials = [*(_picture(among, size) for size in SIZES), _picture(processors.for_images, SIZES[0])]
        items, self.mapping = _laid_down("image", trials)
        checkpoint = ReferenceCheckpoint.load(model_folder, backend)
        layouts = [layout for layout, _ in trials]
        self.questions = [_about_pictures(0, checkpoint, items[:-1], layouts[:-1], token), _text(checkpoint)]
        if facts.several:
            self.questions.insert(0, _about_pictures(2, checkpoint, items[-1:], layouts[-1:], token))

    @property
    def blocks(self) -> int:
        """The number of blocks of key-value memory for the longest question."""
        return max(-(-question.submit.prompt_tokens // BLOCK_TOKENS) for question in self.questions)

    def inbox(self, *, copy: bool) -> Inbox:
        """An inbox that sees only the probe's region."""
        return Inbox([self.mapping], copy=copy)

    def features(self, items: Sequence[Any], *, copy: bool) -> list[Features]:
        """The items' tensors over that region."""
        inbox = self.inbox(copy=copy)
        return [inbox.tensors(item) for item in items]


def picture(size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise of (width, height) pixels."""
    return np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)


def _picture(images: ImageProcessor, size: tuple[int, int]) -> tuple[Layout, Write]:
    return images.layout(*size), partial(_write, images, size)


def _write(images: ImageProcessor, size: tuple[int, int], arrays: Arrays) -> int:
    return images.write(picture(size), arrays)


def _sound(processors: Processors) -> tuple[Layout, Write]:
    processor = processors.for_sounds
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, processor.sampling_rate_hz).astype(np.float32)
    return processor.layout(len(samples)), lambda arrays: processor.write(samples, arrays)


def _laid_down(modality: Modality, trials: Sequence[tuple[Layout, Write]]) -> tuple[list[Item], RegionMapping]:
    """The items, one after the other in a region of their own, and that region's read-only mapping."""
    items, end_bytes = [], 0
    for layout, _ in trials:
        items.append(Item(b"", modality, Slot(0, end_bytes, layout.length_bytes, 0), layout.tensors))
        end_bytes += -(-layout.length_bytes // PAGE_BYTES) * PAGE_BYTES
    region = create_region("mmplane-probe", end_bytes)
    with RegionMapping(region, end_bytes, writable=True) as mapping:
        for item, (layout, write) in zip(items, trials, strict=True):
            arrays = views(layout.tensors, mapping.view(item.slot.offset_bytes, layout.length_bytes))
            write(arrays)
            del arrays
    read_only = reopen_read_only(region)
    kept = RegionMapping(read_only, end_bytes, writable=False)
    os.close(read_only)
    os.close(region)
    return items, kept


def _about_pictures(
    request_id: int, checkpoint: ReferenceCheckpoint, items: Sequence[Item], layouts: Sequence[Layout], token: int
) -> Question:
    text = TEXT + "".join(checkpoint.processor.image_token + TEXT for _ in items)
    pictures = [Image.fromarray(picture(size)) for size in SIZES[: len(items)]]
    inputs = checkpoint.prompt(text, pictures)
    ids = inputs["input_ids"][0].numpy().astype(np.int32)
    found = iter(theirs := runs_of(ids, token))
    ours = [[count for each, count in layout.expansion if each == token] for layout in layouts]
    placeholders = tuple(tuple(islice(found, len(counts))) for counts in ours)
    if [length for _, length in theirs] != [count for counts in ours for count in counts]:
        raise Unsupported(
            f"its processor puts {sum(length for _, length in theirs)} tokens into a prompt for the pictures of "
            f"the probe, and mmplane {sum(map(sum, ours))}"
        )
    return Question("pictures", _submit(request_id, ids, tuple(items), placeholders), inputs)


def _text(checkpoint: ReferenceCheckpoint) -> Question:
    text = TEXT * 2
    inputs = checkpoint.prompt(text, [])
    return Question("text", _submit(1, inputs["input_ids"][0].numpy().astype(np.int32), (), ()), inputs)


def _about_sound(item: Item, layout: Layout, token: int, features: Sequence[Features]) -> Question:
    text = list(range(1, 9))
    ids = np.array(text + [each for each, count in layout.expansion for _ in range(count)] + text, np.int32)
    runs = runs_of(ids, token)
    kinds = torch.zeros(1, len(ids), dtype=torch.int32)
    for start, length in runs:
        kinds[:, start : start + length] = 1 + MODALITIES.index(item.modality)
    inputs = {"input_ids": torch.from_numpy(ids).long()[None], "mm_token_type_ids": kinds, **features[0]}
    return Question("sound", _submit(0, ids, (item,), (runs,)), inputs)


def _submit(request_id: int, ids: np.ndarray[Any, np.dtype[np.int32]], items: Any, placeholders: Any) -> Submit:
    return Submit(
        request_id=request_id,
        prompt=ids.tobytes(),
        prompt_slot=None,
        prompt_tokens=len(ids),
        items=items,
        placeholders=placeholders,
        sampling=Sampling(tokens_max=1, temperature=0.0, top_p=1.0, seed=0, samples=1),
    )


def verify(runner: Runner, probe: Probe, *, copy: bool) -> Sizes:
    """Compare, and return what the model keeps on this rank. Raises Unsupported. Every rank must call it.

    It enters collectives. The items are read anew each time, because a model that writes into its inputs has changed
    them.
    """
    runner.trial, tolerance = True, TOLERANCE
    if runner.dtype != torch.float32:
        noise = runner.noise(probe.questions[-1].inputs["input_ids"])
        tolerance = max(torch.finfo(runner.dtype).eps, NOISE_FACTOR * noise)
    for question in probe.questions:
        compare(runner, question, probe.features(question.submit.items, copy=copy), tolerance)
    return runner.sizes


def compare(runner: Runner, question: Question, features: Sequence[Features], tolerance: float) -> None:
    """Raise Unsupported if packed chunks give other logits than the model's forward pass at any chunk's end."""
    submit = question.submit
    *_, held = runner.prepare(submit, features)
    assert isinstance(held, Held)
    if held.failure is not None:
        raise Unsupported(f"an item of the probe cannot be prepared: {held.failure.message}")
    chunks = list(_chunks(submit, image_runs(submit) if runner.whole_runs else ()))
    ends = [end for _, end in chunks]
    with narrowed(runner.language), torch.inference_mode():
        packed = torch.cat([_logits(runner, submit, *chunk) for chunk in chunks])
        accepted = {name: tensor for name, tensor in question.inputs.items() if name in runner.takes - TARGETS}
        difference = apart(packed, runner.reference(accepted, ends))
        if difference <= tolerance:
            return
        own = {name for item in submit.items for name in [tensor.name for tensor in item.tensors]}
        beside = sorted(accepted.keys() - GIVEN - own)
        fewer = {name: tensor for name, tensor in accepted.items() if name not in beside}
        if beside and apart(packed, runner.reference(fewer, ends)) <= tolerance:
            raise Unsupported(f"its answers depend on {' and '.join(beside)}, which mmplane does not provide")
    what = f"its logits for a prompt of {question.name} differ by {difference:.2g}"
    raise Unsupported(f"{what} from those of its own forward pass")


def _chunks(submit: Submit, runs: Sequence[Run]) -> Iterator[Run]:
    end = 0
    while (start := end) < submit.prompt_tokens:
        end = whole(runs, min(start + CHUNK_TOKENS, submit.prompt_tokens))
        yield start, end


def _logits(runner: Runner, submit: Submit, start: int, end: int) -> torch.Tensor:
    """Logits [1, vocabulary] after that chunk; the chunks before it have been computed."""
    blocks = array("q", range(-(-end // runner.memory.block_tokens)))
    return runner.forward((Segment((submit.request_id, 0), start, end - start, (), 1, blocks),))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, relative to the largest value of `other`; NaN counts as infinite."""
    difference = (one.float() - other.float()).abs().max() / other.float().abs().max().clamp_min(1e-6)
    return float(difference.nan_to_num(float("inf")))


@contextmanager
def narrowed(language: Any) -> Iterator[None]:
    """Inside the block, the language model's windows are not wider than `WINDOW_TOKENS`."""
    before: list[tuple[Any, str, int]] = []
    for part in (language.config, *language.modules()):
        for name in WINDOWS:
            if isinstance(width := getattr(part, name, None), int) and width > WINDOW_TOKENS:
                before.append((part, name, width))
                setattr(part, name, WINDOW_TOKENS)
    try:
        yield
    finally:
        for part, name, width in before:
            setattr(part, name, width)


def runs_of(ids: np.ndarray[Any, np.dtype[np.int32]], token: int) -> tuple[tuple[int, int], ...]:
    """(start, length) of each run of `token` in `ids`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (ids == token).view(np.int8), [0]))))
    return tuple((int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True))
