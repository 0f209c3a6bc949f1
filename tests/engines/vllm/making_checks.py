"""Runs inside vLLM's environment: `python making_checks.py CHECKPOINT`. One JSON line for each check.

vLLM's own renderer with `make` and without it: the same tokens, hashes, placeholders, features and errors.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from making_rig import Rig, assert_same_item, outcome, rig_of
from PIL import Image, ImageFile
from prometheus_client import REGISTRY
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

from mmplane.embed.errors import Full, Lost
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm import metrics
from mmplane.engines.vllm.cache import ArenaCache
from mmplane.engines.vllm.held import HeldItem

UNIT = Path(__file__).parents[2] / "unit"
FILES = UNIT / "media" / "decoding" / "files"
sys.path.insert(0, str(UNIT / "features"))
from engines.noise import SIZES, noise  # noqa: E402

DTYPES = ("float32", "bfloat16", "float16")
SIDE = 1000
"""Of a picture whose features are some MiB."""


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    """The pixels as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def picture(number: int, width: int = SIDE, height: int = SIDE) -> bytes:
    """A JPEG that differs from others."""
    values = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return encoded(values.repeat(8, 0).repeat(8, 1), "JPEG")


def bits_of_pixels(rig: Rig) -> None:
    """What the model normalises on the device: 200 sizes, in requests of one and of several pictures."""
    check_sizes(rig)


def check_sizes(rig: Rig) -> None:
    rig.forget()
    files = [encoded(noise(*size)) for size in SIZES]
    rest = files
    for count in (1, 2, 3, 4, 5, *[8] * len(files)):
        rig.same(rest[:count])
        rest = rest[count:]
        if not rest:
            break
    assert rig.counts() == {"made": len(set(files))}, rig.counts()


def kinds_of_file(rig: Rig) -> None:
    """Every kind that the decode profile was recorded with, and those that it leaves to vLLM."""
    rig.forget()
    paths = sorted(FILES.iterdir())
    for path in paths:
        rig.same([path.read_bytes()])
    counts = rig.counts()
    assert counts == {"made": 98, "damaged": 8, "file": 10}, counts
    assert sum(counts.values()) == len(paths)


def errors(rig: Rig) -> None:
    """vLLM's own words for what cannot be a picture, is cut, too large, or of a shape that the model refuses."""
    rig.forget()
    good = picture(1)
    for bad in (b"", b"no picture", good[: len(good) // 2], encoded(noise(60, 60))[:400], encoded(noise(2, 900)[:1])):
        rig.same([bad])
        rig.same([good, bad])
    with patch.dict(os.environ, {"VLLM_MAX_IMAGE_PIXELS": "999999"}):
        rig.same([good])
        assert "exceed the maximum of 999999 pixels" in str(outcome(rig, rig.made, [good], {}))
    assert rig.counts()["pixels"] == 2


def options(rig: Rig) -> None:
    """What a caller asks keeps its meaning, whoever does it, and is counted where vLLM does it."""
    rig.forget()
    files = [picture(number, 500, 300) for number in range(2)]
    pixels = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 40}
    covered: list[dict[str, Any]] = [
        {"max_pixels": 28 * 28 * 64},
        {"min_pixels": 28 * 28 * 900},
        pixels,
        {"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 30}},
        {"images_kwargs": {"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 50}}},
        {},
    ]
    for asked in covered:
        rig.same(files, mm_processor_kwargs=asked)
    assert rig.counts() == {"made": 2 * len(covered)}, rig.counts()
    for asked in ({"do_resize": False}, {"resample": 0}, {"do_convert_rgb": False}, {"do_rescale": True}):
        rig.same([encoded(noise(56, 84))], mm_processor_kwargs=asked)
    assert rig.counts()["options"] == 3, rig.counts()
    rig.same([encoded(noise(64, 64))], media_io_kwargs={"image": {"rgba_background_color": [0, 0, 255]}})
    assert rig.counts()["loader"] == 1


def figures(rig: Rig) -> None:
    """vLLM's `/metrics` say what was made, and why the rest was not."""
    rig.forget()
    for file in (picture(70), picture(71), (FILES / "ico").read_bytes()):
        rig.render(rig.made, [file])
    value = REGISTRY.get_sample_value
    assert (value("mmplane_images_seen"), value("mmplane_images_made")) == (3.0, 2.0)
    assert value("mmplane_images_passed_over", {"reason": "file"}) == 1.0


def repeats(rig: Rig) -> None:
    """A repeat decodes nothing, in vLLM's process or in the sidecar, even when its features have left the arena."""
    rig.forget()
    files = [picture(number) for number in range(20, 26)]
    with patch.object(ImageFile.ImageFile, "load", side_effect=AssertionError("decoded in vLLM's process")):
        before = rig.materialisations()
        first = [rig.render(rig.made, [file]) for file in files]
        assert rig.materialisations() == before + len(files)
        assert rig.client is not None
        assert rig.client.statistics()["arena"]["evictions"] > 0, "the arena has room for all: the check says nothing"
        again = [rig.render(rig.made, [file]) for file in files]
        assert rig.materialisations() == before + len(files)
        assert rig.client.statistics()["holds"] == 0
    for one, other in zip(first, again, strict=True):
        assert one["mm_hashes"] == other["mm_hashes"]
        assert other["mm_kwargs"]["image"] == [None]
    assert rig.counts() == {"made": len(files)}


def uuids(rig: Rig) -> None:
    """Who names a picture gets what was first sent under the name."""
    rig.forget()
    for file in (picture(40), picture(41), None):
        rig.same([file], uuid="mine")
    assert rig.render(rig.made, [None], uuid="mine")["mm_kwargs"]["image"] == [None]
    assert rig.counts() == {"made": 1}
    rig.same([None], uuid="unknown")


def pictures_without_bytes(rig: Rig) -> None:
    """Images that come decoded are vLLM's, and so is one that comes beside them."""
    rig.forget()
    tokens = rig.render(rig.plain, [])["prompt_token_ids"]
    found = []
    for renderer in (rig.plain, rig.made):
        image = Image.fromarray(noise(100, 150))
        placeholder = renderer.get_mm_processor().info.get_hf_config().image_token_id
        items = renderer._process_multimodal([placeholder, *tokens], {"image": [image]}, None, None)
        found.append(items["mm_kwargs"]["image"][0])
    assert_same_item(*found)
    assert rig.counts() == {"decoded": 1}


def held(rig: Rig) -> None:
    """Before a cache that leaves features in the arena they are not copied: the items hold what the sidecar made."""
    rig.forget()
    tally = Tally(metrics.REASONS, logging.getLogger("mmplane"))
    cache = ArenaCache(lambda: rig.client, tally)
    files = [picture(number) for number in range(50, 53)]
    small = encoded(noise(60, 90))
    assert rig.client is not None
    with patch.object(rig.made, "_mm_processor_cache", cache):
        before = rig.materialisations()
        for _ in range(2):
            for chosen in (files[:1], [*files[1:], small]):
                ours, theirs = rig.render(rig.made, chosen), rig.render(rig.plain, chosen)
                rig.plain.clear_mm_cache()
                items = zip(chosen, ours["mm_kwargs"]["image"], theirs["mm_kwargs"]["image"], strict=True)
                for file, one, other in items:
                    assert_same_item(one, other)
                    assert isinstance(one, HeldItem) == (file != small)
                    if file == small:
                        continue
                    assert one["pixel_values"].data.data_ptr() == one.hold.arrays(torch)["pixel_values"].data_ptr()
        assert rig.materialisations() == before + len(files) + 1
    assert cache.make_stats().hits == len(files)
    assert tally.reasons() == dict.fromkeys(metrics.REASONS, 0) | {"small": 2}


def raised(rig: Rig, file: bytes) -> Exception:
    """What rendering it with `make` raises."""
    try:
        rig.render(rig.made, [file])
    except Exception as error:
        return error
    raise AssertionError("it was rendered")


class Refusing:
    """A client whose sidecar has no room, or has gone."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def materialise(self, *_: object, **__: object) -> None:
        """Raises it."""
        raise self._error


def no_room_and_no_sidecar(rig: Rig) -> None:
    """Without room the answer is 503, as by vLLM's own limits. Without a sidecar vLLM does everything itself."""
    rig.forget()
    file, client = picture(60), rig.client
    try:
        rig.client = Refusing(Full("no room"))  # type: ignore[assignment]
        assert create_error_response(raised(rig, file)).error.code == 503
        for number, gone in enumerate((Refusing(Lost("ended")), None), 1):
            rig.client = gone  # type: ignore[assignment]
            rig.same([file])
            rig.forget() if number == 1 else None
        assert rig.counts() == {"absent": 1}, rig.counts()
    finally:
        rig.client = client


CHECKS: tuple[Callable[[Rig], None], ...] = (
    bits_of_pixels, kinds_of_file, errors, options, figures, repeats, uuids, pictures_without_bytes, held,
    no_room_and_no_sidecar,
)  # fmt: skip


def bits_of_dtypes(folder: str) -> None:
    """Models that do not normalise on the device get floats, in the model's dtype."""
    for dtype in DTYPES:
        with rig_of(folder, dtype=dtype, mm_device_do_normalize=False) as rig:
            check_sizes(rig)


def say(name: str, check: Callable[[], None]) -> None:
    """Run a check."""
    try:
        check()
        error = None
    except Exception:
        error = traceback.format_exc()
    print("CHECK", json.dumps({"name": name, "error": error}), flush=True)


def main() -> None:
    """All of them; those of one rig share it."""
    folder = sys.argv[1]
    only = sys.argv[2:]
    with rig_of(folder, dtype="bfloat16", sidecar_bytes=32 * 1024**2) as rig:
        for check in CHECKS:
            if not only or check.__name__ in only:
                say(check.__name__, lambda check=check: check(rig))
    if not only or "bits_of_dtypes" in only:
        say("bits_of_dtypes", lambda: bits_of_dtypes(folder))


if __name__ == "__main__":
    main()
