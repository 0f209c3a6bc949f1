"""The floor: the sidecar's decoding and transform alone, in processes that do nothing else.

`alone.py MODEL PROCESSES ENCODING`; with `none` as the encoding, only decoding. Memory is warm, and no picture travels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import cycle
from typing import Any

from window import orders, read, report

from mmplane.config import Config
from mmplane.core.records import Ask
from mmplane.features.choice import Processors, choose
from mmplane.media import image
from mmplane.media.materialise import examine, materialise


@cache
def chosen(model: str, encoding: Any) -> Processors:
    return choose(Config(model="", model_folder=model, served_name="", device="cpu", encoding=encoding))


def step(model: str, encoding: Any, media: bytes) -> Callable[[], object]:
    """What is measured, for one picture."""
    if encoding == "none":
        return lambda: image.decode(media)
    processors = chosen(model, encoding)
    recipe = examine(processors, media, Ask("image"))
    out = memoryview(bytearray(recipe.layout.length_bytes))
    return lambda: materialise(processors, media, recipe, out)


def window(model: str, encoding: str, pictures: list[bytes], seconds: float) -> tuple[int, float, float]:
    """Return how many pictures this process made, in which time, and with how much CPU."""
    steps = [step(model, encoding, media) for media in pictures]
    for each in steps:
        each()
    began_s, cpu_s, count = time.perf_counter(), time.process_time(), 0
    for each in cycle(steps):
        each()
        count += 1
        if time.perf_counter() - began_s > seconds:
            break
    return count, time.perf_counter() - began_s, time.process_time() - cpu_s


def main(model: str, processes: int, encoding: str) -> None:
    with ProcessPoolExecutor(processes) as pool:
        report({"ready": True})
        for order in orders():
            asked = model, encoding, read(order["pictures"]), order["seconds"]
            made = [each.result() for each in [pool.submit(window, *asked) for _ in range(processes)]]
            counts, walls_s, cpus_s = zip(*made, strict=True)
            report({"pictures": sum(counts), "wall_s": max(walls_s), "cpu_s": sum(cpus_s), "own_cpu_s": 0.0})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
