"""What does a PNG page cost to decode, and who is faster with the same pixels?

    python benchmarks/png.py [--repeats 15]

A page of 1275 x 1650 pixels: with text and a photograph, the same scanned (with noise), a photograph alone, and the
first one as a larger page and with an alpha channel (opaque, which libpng and libspng return as it is). CPU of this
thread, medians of interleaved runs. Parts of ours: libdeflate (or zlib-ng, with an engine's decode profile) inflates,
then filters are undone. Wanted: ours within 1.1 x of the fastest.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random

import numpy as np
from imagecodecs import deflate_decode, png_decode, spng_decode, zlibng_decode
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from mmplane.features.arithmetic.scanlines import Scanlines
from mmplane.media.image import decode
from mmplane.media.png import CHUNK_HEAD_BYTES, pixel_chunks
from mmplane.media.profiles import VLLM

SIDES = (1275, 1650)
LARGE = (1786, 2526)
RATIO_MAX = 1.1


def png(image: Image.Image) -> bytes:
    """As Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pages() -> dict[str, bytes]:
    """By name."""
    random, noise = Random(0), np.random.default_rng(0)
    photograph = Image.fromarray(load_sample_images().images[0])
    page = Image.new("RGB", SIDES, "white")
    for y in range(60, 1100, 14):
        line = " ".join("".join(random.choices("etaoinshrdlu", k=random.randint(2, 9))) for _ in range(24))
        ImageDraw.Draw(page).text((80, y), line, fill=(20, 20, 20))
    page.paste(photograph.resize((1000, 450)), (120, 1150))
    grain = noise.integers(-2, 3, (SIDES[1], SIDES[0], 1))
    scan = Image.fromarray((np.asarray(page) + grain).clip(0, 255).astype(np.uint8))
    return {
        "page": png(page),
        "scan": png(scan),
        "photograph": png(photograph.resize(SIDES)),
        "large page": png(page.resize(LARGE, Image.Resampling.BICUBIC)),
        "with alpha": png(page.convert("RGBA")),
    }


def pillow(media: bytes) -> np.ndarray:
    """Pillow's own."""
    return np.asarray(Image.open(io.BytesIO(media)).convert("RGB"))


@contextmanager
def timed(spent_ms: list[float]) -> Iterator[None]:
    """Append the CPU that the block takes."""
    began_s = time.thread_time()
    yield
    spent_ms.append((time.thread_time() - began_s) * 1000)


class Parts:
    """Ours by its parts, for RGB and RGBA."""

    def __init__(self, media: bytes) -> None:
        with Image.open(io.BytesIO(media)) as image:
            self._size, start = image.size, image.tile[0].offset - CHUNK_HEAD_BYTES
            self._channels = len(image.mode)
        self._stream = b"".join(pixel_chunks(media, start))

    def measure(self, spent_ms: dict[str, list[float]]) -> None:
        """Inflate the rows once with each library, and undo their filters."""
        width, height = self._size
        lines = Scanlines(height, width, self._channels)
        for name, inflate in (("zlib-ng", zlibng_decode), ("libdeflate", deflate_decode)):
            with timed(spent_ms[name]):
                inflate(self._stream, out=lines.filtered)
        with timed(spent_ms["filters"]):
            assert lines.pixels() is not None


def main() -> None:
    """Measure, compare, fail where ours is slower."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {
        "ours": decode,
        "ours for vLLM": partial(decode, profile=VLLM),
        "libpng": png_decode,
        "libspng": spng_decode,
        "pillow": pillow,
    }
    slow = False
    for name, media in pages().items():
        parts, wanted = Parts(media), pillow(media)
        spent_ms: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            for each, decoder in decoders.items():
                with timed(spent_ms[each]):
                    pixels = decoder(media)
                assert (pixels[..., :3] == wanted).all(), each
            parts.measure(spent_ms)
        medians = {each: statistics.median(spent) for each, spent in spent_ms.items()}
        slow |= medians["ours"] > RATIO_MAX * min(medians[each] for each in decoders)
        print(
            f"{name:10} {len(media) / 1e6:.1f} MB", *(f"{each} {ms:.1f} ms" for each, ms in medians.items()), sep="  "
        )
    sys.exit(slow)


if __name__ == "__main__":
    main()
