"""Where does a clip's CPU time in a worker go, and what is its floor?

    python benchmarks/clip_steps.py [--model FOLDER] [--clips 4] [--rounds 6]

The clips of the workload `video-2mb`. In each round each clip is taken through all steps in turn, in one thread:

    examine            read the container, choose the frames
    decode             the chosen frames as RGB, and nothing else
    all, float32       decode, resize, normalise, and write into a slot of a region that is mapped as in a worker
    all, uint8         the same with the pixels' bytes in the slot
    fill               write one value into a slot of the float32 features' size: no transform can be faster

The next slot is always another one, as in a server whose requests are all new. Page faults are those of `all, float32`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count

import numpy as np

from mmplane.arena.segment import RegionMapping, create_region
from mmplane.bench.inputs.sources import FRAMES_MAX, Source, encoded
from mmplane.config import Config
from mmplane.core.records import Ask
from mmplane.features.choice import Processors, choose
from mmplane.media import video
from mmplane.media.materialise import examine, materialise
from mmplane.models.cached import built_in_folder

REGION_BYTES = 1 << 30
ASK = Ask("video", frames_max=FRAMES_MAX)


class Slots:
    """A region, and one slot in it after the other."""

    def __init__(self) -> None:
        fd = create_region("clip-steps", REGION_BYTES)
        self._region = RegionMapping(fd, REGION_BYTES, writable=True)
        os.close(fd)
        self._number = count()

    def take(self, length_bytes: int) -> memoryview:
        """The next slot."""
        offset_bytes = next(self._number) % (REGION_BYTES // length_bytes) * length_bytes
        return self._region.view(offset_bytes // 64 * 64, length_bytes)


def processors_of(folder: str, encoding: str) -> Processors:
    """Those of a worker."""
    return choose(Config(model=folder, model_folder=folder, served_name="", device="cpu", encoding=encoding))


def steps(clip: bytes, slots: Slots, floats: Processors, pixels: Processors) -> dict[str, Callable[[], object]]:
    """What to time, by name."""
    recipe, compact = examine(floats, clip, ASK), examine(pixels, clip, ASK)
    chosen, length_bytes = recipe.clip, recipe.layout.length_bytes
    assert chosen is not None
    return {
        "examine": lambda: examine(floats, clip, ASK),
        "decode": lambda: [None for _ in video.decode(clip, chosen)],
        "all, float32": lambda: materialise(floats, clip, recipe, slots.take(length_bytes)),
        "all, uint8": lambda: materialise(pixels, clip, compact, slots.take(compact.layout.length_bytes)),
        "fill": lambda: np.frombuffer(slots.take(length_bytes), np.uint8).fill(1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    folder = options.model or built_in_folder()
    floats, pixels, slots = processors_of(folder, "float32"), processors_of(folder, "uint8"), Slots()
    clips = [steps(encoded(Source("video", seed)), slots, floats, pixels) for seed in range(options.clips)]
    took_ms, faults = defaultdict[str, list[float]](list), list[int]()
    for _ in range(options.rounds):
        for clip in clips:
            for name, step in clip.items():
                faults_before, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
                step()
                took_ms[name].append((time.process_time() - began_s) * 1000)
                if name == "all, float32":
                    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_before)
    print(f"{'CPU ms':<16}{'median':>8}{'least':>8}")
    for name, values in took_ms.items():
        print(f"{name:<16}{statistics.median(values):8.1f}{min(values):8.1f}")
    print(f"page faults: {faults[0]} of the first clip, {statistics.median(faults):.0f} at the median")


if __name__ == "__main__":
    main()
