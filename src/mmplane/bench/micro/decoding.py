"""The cost of decoding alone, which is the upper limit of any server's rate on the same cores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from mmplane.bench.inputs.making import recipe_of
from mmplane.media import video


def decode_cpu_ms(clips: Sequence[bytes], model_folder: str) -> float:
    """CPU milliseconds of all threads to decode a clip's sampled frames: the median over the clips."""
    found = []
    for clip in clips:
        recipe = recipe_of("video", clip, model_folder)
        assert recipe.clip is not None
        began_s = time.process_time()
        for _ in video.decode(clip, recipe.clip):
            pass
        found.append((time.process_time() - began_s) * 1000)
    return median(found)
