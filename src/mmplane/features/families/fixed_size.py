"""The fixed-size family (CLIP, SigLIP, LLaVA, Gemma 3 and others): padded, resized and cropped to one size.

Bit-equal to the plain pipeline of transformers' backends (resize, centre crop, rescale, normalise), and to LLaVA's,
which first pads to a square. Features are (1, 3, height, width).
"""

from __future__ import annotations

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import BILINEAR
from mmplane.features.arithmetic.resize import Box
from mmplane.features.arithmetic.sizes import between_edges, inside, shortest_edge
from mmplane.features.checkpoint.defaults import HALVES, IMAGES, Options
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, llava_token, llava_view_tokens
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import Tile, TileImageProcessor

_CLIP: Options = {
    **IMAGES,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
}
_HALVES: Options = {**IMAGES, "size": {"height": 224, "width": 224}, "image_mean": HALVES, "image_std": HALVES}


def _llava_pieces(prompt: Prompt) -> Pieces:
    return [(llava_token(prompt.vocabulary, prompt.settings), llava_view_tokens(prompt))]


def _gemma_pieces(prompt: Prompt) -> Pieces:
    named = prompt.vocabulary.named
    tokens = prompt.settings.get("image_seq_length", 256)
    return [("\n\n", 1), (named("boi_token"), 1), (named("image_token"), tokens), (named("eoi_token"), 1), ("\n\n", 1)]


KNOWN = Known(
    images={
        "CLIPImageProcessor": _CLIP,
        "LlavaImageProcessor": {**_CLIP, "do_pad": False},
        "SiglipImageProcessor": _HALVES,
        "Gemma3ImageProcessor": {
            **_HALVES,
            "default_to_square": True,
            "resample": BILINEAR,
            "do_pan_and_scan": None,
        },
    },
    prompts={
        "LlavaProcessor": PromptRule(llava_token, _llava_pieces),
        "Gemma3Processor": PromptRule(
            lambda vocabulary, _: vocabulary.named("boi_token"),
            _gemma_pieces,
            images=lambda _: {"do_pan_and_scan": False},
        ),
    },
    models={
        "llava": Kinds("LlavaProcessor", "LlavaImageProcessor", tokens={"image": 32000}),
        "gemma3": Kinds("Gemma3Processor", "Gemma3ImageProcessor", tokens={"image": 262144}),
    },
)


class FixedSizeImageProcessor(TileImageProcessor):
    """The fast path of the family: one tile."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        options = checkpoint.options
        self._options = options
        size = options["crop_size"] if options.get("do_center_crop") else options["size"]
        self._tile = (size.height, size.width)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration: fixed size, and floating point."""
        options = checkpoint.options
        crop = bool(options.get("do_center_crop")) and options["crop_size"].height and options["crop_size"].width
        fixed = options["size"].height and options["size"].width
        return (
            checkpoint.input_names == {"pixel_values"}
            and bool(options["do_resize"])
            and bool(crop or fixed)
            and bool(options["do_rescale"] or options["do_normalize"])
            and not options.get("do_pan_and_scan")
            and (not options.get("do_pad") or _pads_to_square(checkpoint))
            and len(options["image_mean"]) == 3
            and checkpoint.backend.serves(options)
        )

    def _companions(self, width: int, height: int, tiles: int) -> Companions:  # noqa: ARG002 - the same for all
        return {"num_crops": np.zeros(1, np.int64)}

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        if self._options.get("do_pad"):
            self._check_square(width, height)
            width = height = max(width, height)
        resized_height, resized_width = self._resized(width, height)
        if resized_height < 1 or resized_width < 1:
            raise bad_media("the model cannot take an image of this size")
        crop_start, (tile_height, tile_width) = self._checkpoint.backend.crop_start, self._tile
        top, left = crop_start(resized_height, tile_height), crop_start(resized_width, tile_width)
        right, bottom = min(left + tile_width, resized_width), min(top + tile_height, resized_height)
        box = Box(max(left, 0), max(top, 0), right, bottom)
        return (Tile(self._resize(resized_width, resized_height, box), max(-top, 0), max(-left, 0)),)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) after the resize, by the rules of both backends' `resize`."""
        size = self._options["size"]
        if size.shortest_edge and size.longest_edge:
            return between_edges(height, width, size.shortest_edge, size.longest_edge)
        if size.shortest_edge:
            return shortest_edge(height, width, size.shortest_edge)
        if size.max_height and size.max_width:
            return inside(height, width, (size.max_height, size.max_width))
        return size.height, size.width

    def _sources(self, pixels: Pixels) -> tuple[Pixels]:
        return (self._square(pixels) if self._options.get("do_pad") else pixels,)


def _pads_to_square(checkpoint: ImageCheckpoint) -> bool:
    return checkpoint.kind == "LlavaImageProcessor"
