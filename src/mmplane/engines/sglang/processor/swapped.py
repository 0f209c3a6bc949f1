"""Replaces transformers' image processor: returns the features that the sidecar made, or calls the original."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import BatchFeature

from mmplane.embed.hold import SidecarHold
from mmplane.engines.sglang.made import marked
from mmplane.engines.sglang.processor.loading import hold_of, pixels_of
from mmplane.engines.sglang.processor.maker import Maker
from mmplane.engines.sglang.processor.rows import Rows

FEATURES = "pixel_values"
"""The array that travels in the arena; the others are small and copied."""
CROPS = "num_crops"
"""Gemma 3's count for the prompt: pan and scan, which would produce some, is an option that the sidecar refuses."""


class Swapped:
    """Behaves like the image processor `own`, which it calls for all images that the sidecar has not made.

    It is not a `BaseImageProcessor`, so that SGLang does not assume a processor on an accelerator. A picture that is
    requested in a way that the trial did not use is decoded here and transformed by `own`.
    """

    def __init__(self, own: Any, maker: Maker) -> None:
        self._own = own
        self._maker = maker

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_own", "_maker"):
            raise AttributeError(name)
        return getattr(self._own, name)

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        """Process like `own`: the features of all images, in order."""
        holds = [hold for hold in map(hold_of, _flat(images)) if hold is not None]
        if holds and len(holds) == len(list(_flat(images))):
            features = together(holds) if self._maker.tried((args, kwargs)) else None
            if features is not None:
                if CROPS in getattr(self._own, "model_input_names", ()):
                    features[CROPS] = torch.zeros(len(holds), dtype=torch.int64)
                self._maker.gave(True)
                return BatchFeature(features)
            self._maker.pass_over("options")
        self._maker.gave(False)
        return self._own(_decoded(images), *args, **kwargs)


def together(holds: list[SidecarHold]) -> dict[str, torch.Tensor] | None:
    """Join the arrays of several pictures like a processor does for a request; None if they do not fit together."""
    pictures = [hold.arrays(torch) for hold in holds]
    if len({tuple((name, one.shape[1:]) for name, one in arrays.items()) for arrays in pictures}) > 1:
        return None
    features = [marked(arrays[FEATURES], hold, FEATURES) for arrays, hold in zip(pictures, holds, strict=True)]
    beside = {name: torch.cat([arrays[name] for arrays in pictures]) for name in pictures[0] if name != FEATURES}
    return {FEATURES: features[0] if len(features) == 1 else Rows(features), **beside}


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, list | tuple):
        for one in images:
            yield from _flat(one)
    elif images is not None:
        yield images


def _decoded(images: Any) -> Any:
    if isinstance(images, list | tuple):
        return [_decoded(one) for one in images]
    return images if hold_of(images) is None else pixels_of(images)
