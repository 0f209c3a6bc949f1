"""What an engine's own loader makes of the files in `tests/unit/media/decoding/files`: a digest of the pixels of each.

    tools/peers/vllm/install.sh VLLM;     VLLM/bin/python tools/peers/record_decoding.py vllm
    tools/peers/sglang/install.sh SGLANG; SGLANG/bin/python tools/peers/record_decoding.py sglang

Each writes `tests/unit/media/decoding/ENGINE.json`, which unit tests compare our decode profiles with.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "tests" / "unit" / "media" / "decoding"
Load = Callable[[bytes], Any]


def vllm() -> Load:
    """As `MediaConnector` loads the images of a chat request, by default."""
    from vllm.multimodal.media import ImageMediaIO

    loader = ImageMediaIO(image_mode="RGB")
    return lambda media: loader.load_bytes(media).media


def sglang() -> Load:
    """As most multimodal processors load the images of a chat request, without a GPU."""
    from sglang.srt.managers.schedule_batch import Modality
    from sglang.srt.multimodal.processors.base_processor import BaseMultimodalProcessor

    return lambda media: BaseMultimodalProcessor._load_single_item(media, Modality.IMAGE)


def digest(image: Any) -> str:
    """`WIDTHxHEIGHT` and a digest of the RGB bytes."""
    assert image.mode == "RGB"
    return f"{image.width}x{image.height} {hashlib.sha256(image.tobytes()).hexdigest()[:16]}"


def main() -> None:
    """Record one engine."""
    warnings.simplefilter("ignore")
    (engine,) = sys.argv[1:]
    load = {"vllm": vllm, "sglang": sglang}[engine]()
    pixels = {}
    for path in sorted((FOLDER / "files").iterdir()):
        try:
            pixels[path.name] = digest(load(path.read_bytes()))
        except Exception:  # whatever its decoders raise
            pixels[path.name] = "refused"
    record = {
        "command": f"python tools/peers/record_decoding.py {engine}",
        "versions": {name: version(name) for name in (engine, "pillow")},
        "pixels": pixels,
    }
    (FOLDER / f"{engine}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
