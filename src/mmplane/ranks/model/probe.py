"""The probe: one real item through this rank's model before it serves.

Two things are found out here rather than on a user's request. A model that writes into its inputs dies on the read-only
page (the supervisor then starts the group again with copies). A model that needs more than causal attention over packed
tokens (bidirectional image tokens, say) gives other logits than its own forward pass, and is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mmplane.arena.segment import RegionMapping, create_region, reopen_read_only
from mmplane.core.plan import Held, Sampling, Submit
from mmplane.core.records import Item, Layout, Modality, Slot
from mmplane.delivery.delivery import Features
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays, views
from mmplane.ranks.model.anatomy import Unsupported
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.schedule import Segment

SIDE_PIXELS = 112
TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest logit: float32 in another order gives about 1e-6."""


class Probe:
    """An item's features in a read-only region of their own, and a prompt around them."""

    def __init__(self, processors: Processors, tokens: dict[Modality, int]) -> None:
        modality = processors.probed
        layout, write = _trial(processors)
        self._region = create_region("mmplane-probe", layout.length_bytes)
        with RegionMapping(self._region, layout.length_bytes, writable=True) as mapping:
            arrays = views(layout.tensors, mapping.view(0, layout.length_bytes))
            write(arrays)
            del arrays
        read_only = reopen_read_only(self._region)
        self.mapping = RegionMapping(read_only, layout.length_bytes, writable=False)
        os.close(read_only)
        os.close(self._region)
        text = list(range(1, 9))
        expansion = [token for token, count in layout.expansion for _ in range(count)]
        ids = np.array(text + expansion + text, dtype=np.int32)
        self.submit = Submit(
            request_id=0,
            prompt=ids.tobytes(),
            prompt_slot=None,
            prompt_tokens=len(ids),
            items=(Item(b"", modality, Slot(0, 0, layout.length_bytes, 0), layout.tensors),),
            placeholders=(runs_of(ids, tokens[modality]),),
            sampling=Sampling(tokens_max=1, temperature=0.0, top_p=1.0, seed=0, samples=1),
        )

    def inbox(self, *, copy: bool) -> Inbox:
        """An inbox that sees only the probe's region."""
        return Inbox([self.mapping], copy=copy)

    def features(self, *, copy: bool) -> list[Features]:
        """The picture's tensors over that region."""
        inbox = self.inbox(copy=copy)
        return [inbox.tensors(item) for item in self.submit.items if isinstance(item, Item)]


def _trial(processors: Processors) -> tuple[Layout, Callable[[Arrays], int]]:
    """A picture of noise, or for a model without pictures a second of it: its layout, and what writes its features."""
    noise = np.random.default_rng(0)
    if processors.image is None:
        processor = processors.for_sounds
        samples = noise.uniform(-0.5, 0.5, processor.sampling_rate_hz).astype(np.float32)
        return processor.layout(len(samples)), lambda arrays: processor.write(samples, arrays)
    images = processors.for_images
    pixels = noise.integers(0, 256, (SIDE_PIXELS, SIDE_PIXELS, 3), np.uint8)
    return images.layout(SIDE_PIXELS, SIDE_PIXELS), lambda arrays: images.write(pixels, arrays)


def verify(runner: Runner, submit: Submit, features: Callable[[], Sequence[Features]]) -> int:
    """Cache bytes per token of this rank. Raises Unsupported. Every rank must call it: it enters collectives.

    `features` gives the item anew each time: a model that writes into its inputs has spoiled what it was given.
    """
    *_, held = runner.prepare(submit, features())
    assert isinstance(held, Held)
    if held.failure is not None:
        raise Unsupported(f"a probe item cannot be prepared: {held.failure}")
    half, whole = submit.prompt_tokens // 2, submit.prompt_tokens
    with torch.inference_mode():
        runner.forward((Segment((submit.request_id, 0), 0, half, None, 0),))
        packed = runner.forward((Segment((submit.request_id, 0), half, whole - half, None, 1),))
    assert packed is not None
    reference = runner.reference(submit, features())
    difference = (packed[0] - reference).abs().max() / reference.abs().max().clamp_min(1e-6)
    if not float(difference) <= (TOLERANCE if packed.dtype == torch.float32 else 5e-2):
        raise Unsupported(
            f"this architecture is not supported: packed attention gives logits that differ by {float(difference):.2g}"
        )
    return runner.cache_bytes_per_token(submit.request_id)


def runs_of(ids: np.ndarray[tuple[int], np.dtype[np.int32]], token: int) -> tuple[tuple[int, int], ...]:
    """(start, length) of each run of `token` in `ids`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (ids == token).view(np.int8), [0]))))
    return tuple((int(start), int(end - start)) for start, end in zip(edges[::2], edges[1::2], strict=True))
