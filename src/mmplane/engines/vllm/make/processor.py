"""A subclass of the model's own multimodal processor that uses finished features instead of calling transformers.

It changes two things. Items that the cache misses keep their encoded bytes (vLLM unwraps them, and copies each image
twice), and the context's call of the HF processor returns the sidecar's features. Hashes, the cache, placeholders and
everything about prompts remain the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from vllm.multimodal.inputs import MultiModalKwargsItem
from vllm.multimodal.parse import ImageProcessorItems, MultiModalDataItems
from vllm.multimodal.processing import InputProcessingContext

from mmplane.engines.vllm.cache import ArenaCache
from mmplane.engines.vllm.held import HeldItem, is_large
from mmplane.engines.vllm.make.image import SidecarImage, decoded, is_counted, marked_counted
from mmplane.engines.vllm.make.maker import Maker
from mmplane.engines.vllm.make.reasons import NotMade

FEATURES = "pixel_values"
RAW = {"do_rescale": False, "do_normalize": False}
"""vLLM's argument for a processor whose model normalises on the device."""
OPTIONS = frozenset({"min_pixels", "max_pixels", "size"})
"""Arguments of a call that the sidecar interprets like transformers."""
IGNORED = frozenset({"truncation", "text_kwargs", "videos_kwargs", "audio_kwargs"})
"""Arguments that do not affect images."""


@dataclass(frozen=True)
class MakingContext(InputProcessingContext):  # type: ignore[misc]
    """vLLM's context of a model, with a maker. `raw`: the sidecar makes pixels that the device normalises."""

    maker: Maker
    raw: bool

    def call_hf_processor(
        self, hf_processor: Callable[..., Any], data: Mapping[str, Any], kwargs: Mapping[str, Any] = {}
    ) -> Any:
        """Return what the HF processor would return for these images. Raises what vLLM raises, and Overloaded."""
        images = data.get("images")
        if not images:
            return super().call_hf_processor(hf_processor, data, kwargs)
        try:
            made = self._made(images, data, kwargs)
            self.maker.tally.seen(len(images))
            self.maker.tally.carried(len(images))
            return made
        except NotMade as reason:
            images = self.left(images, str(reason))
        finally:
            self.maker.figures.show(self.maker.tally)
        return super().call_hf_processor(hf_processor, {**data, "images": images}, kwargs)

    def left(self, images: Sequence[Any], reason: str) -> list[Any]:
        """Return the decoded images, from which vLLM makes features. Each is counted once, where it was first left."""
        for image in images:
            if not is_counted(image):
                self.maker.tally.seen()
                self.maker.tally.passed_over(reason if isinstance(image, SidecarImage) else "decoded")
        return [marked_counted(decoded(image)) for image in images]

    def _made(self, images: Sequence[Any], data: Mapping[str, Any], kwargs: Mapping[str, Any]) -> BatchFeature:
        if not data.keys() <= {"images", "text"} or not all(isinstance(image, SidecarImage) for image in images):
            raise NotMade("company")
        options = self._options(self.get_merged_mm_kwargs(kwargs))
        return BatchFeature(outlined([self.maker.make(image, options) for image in images]))

    def _options(self, merged: Mapping[str, Any]) -> dict[str, Any]:
        flat = {name: value for name, value in merged.items() if name not in IGNORED and name != "images_kwargs"}
        flat |= merged.get("images_kwargs", {})
        raw = {name: flat.pop(name) for name in RAW if name in flat}
        if raw != (RAW if self.raw else {}) or not flat.keys() <= OPTIONS:
            raise NotMade("options")
        return {name: value for name, value in flat.items() if value is not None}


def outlined(made: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join all arrays of all images. Features only have dtype and shape here; `placed` inserts them."""
    joined = {name: torch.cat([each[name] for each in made]) for name in made[0] if name != FEATURES}
    features = [each[FEATURES] for each in made]
    shape = (sum(map(len, features)), *features[0].shape[1:])
    return {**joined, FEATURES: torch.empty((), dtype=features[0].dtype).expand(shape)}


def placed(item: MultiModalKwargsItem, image: Any) -> MultiModalKwargsItem:
    """Return the item with the image's features. Large ones that stay in the arena are held."""
    element = item[FEATURES]
    if any(element.data.stride()):
        return item
    features = image.features[FEATURES]
    filled = MultiModalKwargsItem({**item, FEATURES: replace(element, data=features.view(element.data.shape))})
    stays = image.hold is not None and features.shape == element.data.shape and is_large(features)
    return HeldItem(filled, image.hold) if stays else filled


class _WithBytes(ImageProcessorItems):  # type: ignore[misc]
    """Images that are passed on as they arrived, with their bytes."""

    def __getitem__(self, index: int) -> Any:
        return self.data[index]


class Making:
    """A mixin for a model's processor class."""

    info: Any

    def _cached_apply_hf_processor(self, inputs: Any, timing_ctx: Any) -> Any:
        """Handle one request at a time: vLLM has one thread for this."""
        self.info.ctx.maker.keeps = isinstance(inputs.cache, ArenaCache)
        return super()._cached_apply_hf_processor(inputs, timing_ctx)  # type: ignore[misc]

    def _get_cache_missing_items(self, cache: Any, mm_data_items: Any, mm_hashes: Any) -> Any:
        items = {
            modality: _WithBytes(each.data) if type(each) is ImageProcessorItems else each
            for modality, each in mm_data_items.items()
        }
        return super()._get_cache_missing_items(cache, MultiModalDataItems(items), mm_hashes)  # type: ignore[misc]

    def _get_hf_mm_inputs(self, mm_items: Any, hf_kwargs: Any) -> Any:
        """Decode images that come with other media, because the HF processor takes all of them together."""
        inputs = super()._get_hf_mm_inputs(mm_items, hf_kwargs)  # type: ignore[misc]
        if sum(map(bool, mm_items.values())) > 1 and "images" in inputs.hf_data:
            inputs.hf_data["images"] = self.info.ctx.left(inputs.hf_data["images"], "company")
        return inputs

    def _get_mm_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any) -> Any:
        """The step after items are split: they get their features."""
        images = mm_items.get("image")
        if isinstance(images, ImageProcessorItems):
            items = out_mm_kwargs["image"]
            items[:] = map(placed, items, images.get_all())
        return super()._get_mm_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)  # type: ignore[misc]
