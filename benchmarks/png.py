"""What does a PNG page cost to decode, and who is faster with the same pixels?

    python benchmarks/png.py [--repeats 15]

A page of 1275 x 1650 pixels: with text and a photograph, the same scanned (with noise), and a photograph alone. CPU of
this thread, medians of interleaved runs. Wanted: ours within 1.1 x of the fastest.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from random import Random

import numpy as np
from imagecodecs import spng_decode
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from mmplane.media.image import decode

SIDES = (1275, 1650)
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
    return {"page": png(page), "scan": png(scan), "photograph": png(photograph.resize(SIDES))}


def pillow(media: bytes) -> np.ndarray:
    """Pillow's own."""
    return np.asarray(Image.open(io.BytesIO(media)).convert("RGB"))


def main() -> None:
    """Measure, compare, fail where ours is slower."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {"ours": decode, "pillow": pillow, "libspng": spng_decode}
    slow = False
    for name, media in pages().items():
        spent_ms: dict[str, list[float]] = {each: [] for each in decoders}
        for _ in range(repeats):
            for each, decoder in decoders.items():
                began_s = time.thread_time()
                pixels = decoder(media)
                spent_ms[each].append((time.thread_time() - began_s) * 1000)
                assert (pixels == pillow(media)).all(), each
        medians = {each: statistics.median(spent) for each, spent in spent_ms.items()}
        ratio = medians["ours"] / min(medians.values())
        slow |= ratio > RATIO_MAX
        print(
            f"{name:10} {len(media) / 1e6:.1f} MB", *(f"{each} {ms:.1f} ms" for each, ms in medians.items()), sep="  "
        )
    sys.exit(slow)


if __name__ == "__main__":
    main()
