"""Materialises one item: turns its encoded bytes into the arrays that the model takes, in any process.

A worker writes them into the arena. A delivery that materialises elsewhere (on a rank, in the front end's threads)
writes them into its own memory. The code is the same, so the features are the same. Nothing but the buffer is changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from msgspec.structs import replace

from mmplane.core.records import Ask, Modality, Recipe
from mmplane.core.stages import Span
from mmplane.features.adjusted import adjusted
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays, views
from mmplane.features.contract.image import Pixels
from mmplane.media import audio, embeddings, image, video
from mmplane.media.profiles import PROFILES

Media = memoryview | bytes


@dataclass(frozen=True)
class Made:
    """Timings, from `began_s` on. `bytes_written` counts the bytes written into the buffer, by whoever wrote them."""

    decode_ms: float
    transform_ms: float
    bytes_written: int
    began_s: float = 0.0

    def spans(self, process: str) -> tuple[Span, Span]:
        """Spans as if everything had been decoded before it was transformed; for a clip, frames alternate."""
        decode_s = self.decode_ms / 1000
        decode = Span("decode", process, self.began_s, decode_s)
        return decode, Span("transform", process, self.began_s + decode_s, self.transform_ms / 1000)


def materialise(processors: Processors, media: Media, recipe: Recipe, out: memoryview) -> Made:
    """Decode `media` and write its features into `out`, a writable buffer of `recipe.layout.length_bytes`.

    Raises RequestError if the media cannot be decoded, or if the model takes no such items.
    """
    began_s = time.perf_counter()
    processors = adjusted(processors, recipe.modality, recipe.arguments)
    arrays = views(recipe.layout.tensors, out)
    if recipe.embedded:
        decode_s, written_bytes = 0.0, embeddings.write(media, arrays)
    else:
        decode_s, written_bytes = _MAKERS[recipe.modality](processors, media, recipe, arrays)
    whole_s = time.perf_counter() - began_s
    return Made(decode_s * 1000, (whole_s - decode_s) * 1000, written_bytes, began_s)


def _make_image(processors: Processors, media: Media, recipe: Recipe, out: Arrays) -> tuple[float, int]:
    processor = processors.for_images
    started_s = time.perf_counter()
    pixels = image.decode(media, side_max=recipe.side_max, profile=PROFILES[processors.decode_profile])
    decode_s = time.perf_counter() - started_s
    return decode_s, processor.write(pixels, out)


def _make_clip(processors: Processors, media: Media, recipe: Recipe, out: Arrays) -> tuple[float, int]:
    processor = processors.for_clips
    assert recipe.clip is not None
    frames = Timed(video.decode(media, recipe.clip))
    with closing(frames):
        written_bytes = processor.write(frames, recipe.clip, out)
    return frames.seconds, written_bytes


def _make_sound(processors: Processors, media: Media, recipe: Recipe, out: Arrays) -> tuple[float, int]:
    processor = processors.for_sounds
    started_s = time.perf_counter()
    samples = audio.decode(media, processor.sampling_rate_hz, recipe.samples)
    decode_s = time.perf_counter() - started_s
    return decode_s, processor.write(samples, out)


class Timed(Iterator[Pixels]):
    """Frames, with the time that it took to get them."""

    def __init__(self, frames: Generator[Pixels, None, None]) -> None:
        self._frames = frames
        self.seconds = 0.0

    def __next__(self) -> Pixels:
        started_s = time.perf_counter()
        try:
            return next(self._frames)
        finally:
            self.seconds += time.perf_counter() - started_s

    def close(self) -> None:
        """Close the decoder, whether or not all frames were read."""
        self._frames.close()


_MAKERS: Mapping[Modality, Callable[[Processors, Media, Recipe, Arrays], tuple[float, int]]] = {
    "image": _make_image,
    "video": _make_clip,
    "audio": _make_sound,
}
"""The function for each modality, which returns (seconds of decoding, bytes written)."""


def examine(processors: Processors, media: Media, ask: Ask) -> Recipe:
    """Return how to materialise this item. Except for images, native parsers may crash, so never call it in the front
    end.

    Raises RequestError: 400 for errors in the media, 422 if the model takes no such items.
    """
    if ask.embedded:
        return embeddings.examine(processors.for_embeddings, media)
    processors = adjusted(processors, ask.modality, ask.arguments)
    if ask.modality == "video":
        clips = processors.for_clips
        recipe = video.examine(clips, media, ask)
        decoded_bytes = _frames_bytes(recipe, held=clips.holds_frames)
        return replace(recipe, decoded_bytes=decoded_bytes, arguments=ask.arguments)
    if ask.modality == "audio":
        recipe = audio.examine(processors.for_sounds, media)
        return replace(recipe, decoded_bytes=recipe.samples * SAMPLE_BYTES)
    profile = PROFILES[processors.decode_profile]
    header = image.probe(media, profile=profile)
    size = image.shrunk(header.width, header.height, ask.side_max)
    layout, decoded_bytes = processors.for_images.layout(*size), image.decoded_bytes(header, profile=profile)
    return Recipe("image", layout, side_max=ask.side_max, decoded_bytes=decoded_bytes, arguments=ask.arguments)


SAMPLE_BYTES = 16
"""Bytes of a sample at the model's rate, and of its source at the file's rate."""
FRAMES_HELD = 17
"""Frames held by the decoder, and the one that is being written into the slot."""


def _frames_bytes(recipe: Recipe, *, held: bool) -> int:
    """Bytes of the decoder's frames; if all chosen ones are `held`, of those and their copy in torch as well."""
    assert recipe.clip is not None
    frames = FRAMES_HELD + (2 * len(recipe.clip.indices) if held else 0)
    return recipe.clip.width * recipe.clip.height * 3 * frames


def recode(processors: Processors, recipe: Recipe, media: Media) -> Recipe:
    """Return the same recipe for processors with another encoding: another layout, the same frames and samples.

    Raises RequestError like `examine`.
    """
    if recipe.modality == "video":
        assert recipe.clip is not None
        clips = adjusted(processors, "video", recipe.arguments).for_clips
        return replace(recipe, layout=clips.layout(recipe.clip))
    if recipe.modality == "audio" or recipe.embedded:
        return recipe
    return examine(processors, media, Ask("image", side_max=recipe.side_max, arguments=recipe.arguments))
