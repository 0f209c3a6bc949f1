"""What `--encoding auto` weighs: the cost of bytes and of floats, and how many pictures each leaves room for.

    python benchmarks/feature_encodings.py MODEL [--rounds 21] [--arena-bytes N] [--workers N]

For a photograph and a page of noise: CPU milliseconds of one core to write features (a worker does it once for a
picture), and to expand bytes to float32 (each rank does it once for each run of its encoder). Every round runs each
once, in turn; the table gives medians. Bias: whoever writes has a core and its cache to itself, and its memory is
already mapped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mmplane.config import GIB, Config
from mmplane.features.arithmetic.encodings import Encoding, storage_dtype
from mmplane.features.contract.image import FEATURES
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.select import image_processor
from mmplane.ranks.model.rebuild import Rebuild

SIZES = ((1288, 966), (1275, 1650))
ENCODINGS: tuple[Encoding, ...] = ("float32", "uint8")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a checkpoint folder of a family with bytes")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--arena-bytes", type=int, default=GIB)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    regions = Config(
        model="", model_folder="", served_name="", arena_bytes=options.arena_bytes, workers=options.workers
    ).region_bytes()[1:]
    print(
        "| picture | write float32, ms | write uint8, ms | expand, ms | room, float32 | room, uint8 |\n"
        + "|---" * 6
        + "|"
    )
    for width, height in SIZES:
        work, lengths = prepared(options.model, width, height)
        times = {name: [] for name in work}  # type: dict[str, list[float]]
        for _ in range(options.rounds):
            for name, call in work.items():
                times[name].append(cpu_ms(call))
        spent = " | ".join(f"{statistics.median(each):.1f}" for each in times.values())
        room = " | ".join(str(sum(region // length for region in regions)) for length in lengths)
        print(f"| {width}x{height} | {spent} | {room} |")


def prepared(folder: str, width: int, height: int) -> tuple[dict[str, Callable[[], object]], list[int]]:
    """What is timed, by name, and an item's bytes in each encoding."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    work: dict[str, Callable[[], object]] = {}
    lengths = []
    for encoding in ENCODINGS:
        processor = image_processor(folder, encoding=encoding)
        if not isinstance(processor, TableImageProcessor):
            raise SystemExit("this checkpoint's images have no bytes")
        layout = processor.layout(width, height)
        arrays = {each.name: np.empty(each.shape, storage_dtype(each.dtype)) for each in layout.tensors}
        work[encoding] = lambda processor=processor, arrays=arrays: processor.write(pixels, arrays)  # type: ignore[misc]
        lengths.append(layout.length_bytes)
    rebuild, stored = Rebuild(processor.byte_form, torch.float32), torch.from_numpy(arrays[FEATURES])
    work["expand"] = lambda: rebuild(stored)
    return work, lengths


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU time of this thread for one call."""
    began_s = time.thread_time()
    call()
    return (time.thread_time() - began_s) * 1000


if __name__ == "__main__":
    main()
