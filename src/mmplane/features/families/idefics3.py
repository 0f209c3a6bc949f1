"""Idefics3 and SmolVLM: resized by the longer side, then to whole tiles, and split; a small view comes last.

Each resize uses the 8-bit result of the previous one; the small view is the third. Bit-equal to transformers.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import LANCZOS
from mmplane.features.arithmetic.sizes import Size, longest_edge
from mmplane.features.checkpoint.defaults import HALVES, IMAGES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.prompts import Companions, Prompt, PromptRule, tokenizers_image_token
from mmplane.features.checkpoint.vocabulary import Pieces
from mmplane.features.contract.image import Pixels
from mmplane.features.families.tiles import Grid, Tile, TileImageProcessor

SIDE_MAX = 4096
"""No image is resized to a longer side (`MAX_IMAGE_SIZE`)."""


def _idefics_pieces(prompt: Prompt) -> Pieces:
    return _pieces(prompt, "<image>", "<fake_token_around_image>", "<global-img>")


def _smol_pieces(prompt: Prompt) -> Pieces:
    named = prompt.vocabulary.named
    around = named("fake_image_token", "<fake_token_around_image>")
    return _pieces(prompt, named("image_token", "<image>"), around, named("global_image_token", "<global-img>"))


def _pieces(prompt: Prompt, token: str, around: str, whole: str) -> Pieces:
    tokens = prompt.settings.get("image_seq_len", 169)
    rows, columns = (int(prompt.companions[name][0, 0]) for name in ("rows", "cols"))
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            yield around, 1
            yield f"<row_{row}_col_{column}>", 1
            yield token, tokens
        yield ("\n" if row < rows else "\n\n"), 1
    yield from ((around, 1), (whole, 1), (token, tokens), (around, 1))


_OPTIONS = {
    **IMAGES,
    "default_to_square": True,
    "resample": LANCZOS,
    "size": {"longest_edge": 4 * 364},
    "image_mean": HALVES,
    "image_std": HALVES,
    "do_pad": True,
    "do_image_splitting": True,
    "max_image_size": {"longest_edge": 364},
}
_INPUTS = frozenset({"pixel_values", "pixel_attention_mask"})

KNOWN = Known(
    images={"Idefics3ImageProcessor": _OPTIONS, "SmolVLMImageProcessor": _OPTIONS},
    prompts={
        "Idefics3Processor": PromptRule(lambda *_: "<image>", _idefics_pieces, _INPUTS),
        "SmolVLMProcessor": PromptRule(tokenizers_image_token("<image>"), _smol_pieces, _INPUTS),
    },
    models={
        "idefics3": Kinds("Idefics3Processor", "Idefics3ImageProcessor", tokens={"image": 128257}),
        "smolvlm": Kinds("SmolVLMProcessor", "SmolVLMImageProcessor", "SmolVLMVideoProcessor", {"image": 128257}),
    },
)


class Idefics3ImageProcessor(TileImageProcessor):
    """The fast path of the family. Features are (1, tiles, 3, side, side), the small view last."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        super().__init__(checkpoint, encoding)
        side = checkpoint.options["max_image_size"]["longest_edge"]
        self._tile = (side, side)

    @staticmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether this file supports the configuration."""
        options = checkpoint.options
        return (
            checkpoint.input_names == _INPUTS
            and bool(options["do_resize"] and options["do_pad"] and options["size"].longest_edge)
            and set(options["max_image_size"]) == {"longest_edge"}
            and bool(options["do_rescale"] or options["do_normalize"])
            and checkpoint.backend.serves(options)
        )

    def _leading(self, tiles: int) -> tuple[int, ...]:
        return (1, tiles)

    def _companions(self, width: int, height: int, tiles: int) -> Companions:
        side, _ = self._tile
        rows, columns = (length // side if tiles > 1 else 0 for length in self._sizes(width, height)[1])
        mask = np.broadcast_to(np.int64(1), (1, tiles, side, side))
        return {"pixel_attention_mask": mask, "rows": np.array([[rows]]), "cols": np.array([[columns]])}

    def _sizes(self, width: int, height: int) -> tuple[Size, Size]:
        """(height, width) in pixels after the first resize, and after the second."""
        options = self._checkpoint.options
        first = longest_edge(height, width, options["size"].longest_edge, SIDE_MAX)
        return first, _whole_tiles(*first, self._tile[0]) if options["do_image_splitting"] else self._tile

    def _tiles(self, width: int, height: int) -> list[Tile]:
        _, size = self._sizes(width, height)
        if size == self._tile:
            return [Tile(self._resize(*self._tile))]
        tiles = Grid(size, self._tile).tiles(size, self._resize, source=1)
        return [*tiles, Tile(self._resize(*self._tile), source=1)]

    def _sources(self, pixels: Pixels) -> list[Pixels]:
        """The image after the first resize, and after the second if it is split."""
        (height, width), size = self._sizes(pixels.shape[1], pixels.shape[0])
        sources = [self._resize(width, height).image(pixels)]
        if size != self._tile:
            sources.append(self._resize(size[1], size[0]).image(sources[0]))
        return sources


def _whole_tiles(height: int, width: int, side: int) -> Size:
    """Idefics3's `resize_for_vision_encoder`: the longer side up to whole tiles, the other after it."""
    ratio = width / height
    if width >= height:
        width = ceil(width / side) * side
        return ceil(int(width / ratio) / side) * side, width
    height = ceil(height / side) * side
    return height, ceil(int(height * ratio) / side) * side
