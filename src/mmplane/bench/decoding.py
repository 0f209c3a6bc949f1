"""What decoding alone costs: no server can be faster than its cores over this."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from mmplane.bench.making import processors
from mmplane.bench.sources import FRAMES_MAX
from mmplane.core.records import Ask
from mmplane.media import video
from mmplane.media.materialise import examine


def decode_cpu_ms(clips: Sequence[bytes], model_folder: str) -> float:
    """CPU milliseconds of all threads to decode the sampled frames of a clip: the median over the clips."""
    found = []
    for clip in clips:
        recipe = examine(processors(model_folder), clip, Ask("video", frames_max=FRAMES_MAX))
        assert recipe.clip is not None
        began_s = time.process_time()
        for _ in video.decode(clip, recipe.clip):
            pass
        found.append((time.process_time() - began_s) * 1000)
    return median(found)
