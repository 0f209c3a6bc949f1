"""How the workers scale: images per second of one and of two worker processes, the pool alone.

    python benchmarks/workers.py [--rounds 7] [--seconds 1.0] [--workers 2] [--json FILE]

Each worker is a forked process that runs `mmplane.media.worker.Jobs.answer` on JPEGs that lie in the front end's
region and writes their features into its own region: decode, transform, in place; regions, slots and mappings are real.
Nobody hands it jobs one by one, so what is left out is the record on the socket (some 0.05 ms an image). Worker i is
pinned to core i. A round is a window of each single worker alone and a window of all together, in an order that turns;
a window counts the images that ended in it, over the time they took. The ratio is all together over the mean of the
single ones, of each round; the table gives its median and range. `by CPU time` is what the ratio would be if nobody
else used the cores: the workers' number times the CPU time of an image alone over that of an image in company.

Bias: the same few JPEGs again and again, which stay in the last-level cache (a request's body has just been written
there too). Other work on the machine makes the ratio worse, and so do cores that share execution units or a clock
budget: `spin` is the same ratio for a loop that touches no memory, which is the most that this machine can show.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numba
import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_sample_images

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping, create_region, reopen_read_only
from mmplane.core.jobs import Materialise, Materialised
from mmplane.core.records import Recipe
from mmplane.features.choice import Processors
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.select import image_processor
from mmplane.media.worker import Jobs
from mmplane.models.tiny import ensure_tiny

SIZE = (1288, 966)
JPEGS = 4
SLOTS = 4
MEDIA_BYTES = 16 * 1024 * 1024
FEATURES_BYTES = 128 * 1024 * 1024
ORDER = struct.Struct("d")
REPORT = struct.Struct("ddd")


@numba.njit("int64(int64)")
def spin(turns: int) -> int:
    """Busy for some time without memory: what two cores can do at best."""
    state = 1
    for _ in range(turns):
        state = (state * 6364136223846793005 + 1442695040888963407) % 9223372036854775783
    return state


def jpegs() -> list[bytes]:
    """Photographs of one size, cut differently."""
    found = []
    for index in range(JPEGS):
        photograph = Image.fromarray(load_sample_images().images[index % 2])
        buffer = io.BytesIO()
        photograph.crop((8 * index, 0, 600 + 8 * index, 420)).resize(SIZE).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def model_folder(folder: Path, pixels_max: int) -> str:
    """The built-in model's files, with a published model's limit of pixels."""
    shutil.copytree(ensure_tiny(folder / "tiny"), folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = folder / "model" / "preprocessor_config.json"
    settings = json.loads(config.read_text())
    settings = {name: value for name, value in settings.items() if name != "size"}
    config.write_text(json.dumps(settings | {"min_pixels": 3136, "max_pixels": pixels_max}))
    return str(folder / "model")


class Pool:
    """Worker processes that work when told, for as long as told."""

    def __init__(self, processor: ImageProcessor, workers: int) -> None:
        self._arena = Arena([MEDIA_BYTES] + [FEATURES_BYTES] * workers)
        self._fds = [create_region(f"benchmark-{index}", size) for index, size in enumerate(self._sizes(workers))]
        self._media = RegionMapping(self._fds[0], MEDIA_BYTES, writable=True)
        self._sockets: list[socket.socket] = []
        layout = processor.layout(*SIZE)
        frontend = Process("frontend", 0, 1)
        media = []
        for content in jpegs():
            slot = self._arena.reserve(0, len(content), frontend)
            self._media.view(slot.offset_bytes, slot.length_bytes)[:] = content
            self._arena.commit(slot, frontend)
            media.append(slot)
        for index in range(1, workers + 1):
            writer = Process("worker", index, 1)
            slots = [self._arena.reserve(index, layout.length_bytes, writer) for _ in range(SLOTS)]
            jobs = [
                Materialise(turn, Recipe("image", layout), media[turn % JPEGS], slots[turn % SLOTS])
                for turn in range(JPEGS * SLOTS)
            ]
            self._start(index, processor, jobs)
        self.features_bytes = layout.length_bytes
        self.media_bytes = [slot.length_bytes for slot in media]

    @staticmethod
    def _sizes(workers: int) -> list[int]:
        return [MEDIA_BYTES] + [FEATURES_BYTES] * workers

    def _start(self, index: int, processor: ImageProcessor, jobs: list[Materialise]) -> None:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            try:
                ours.close()
                for other in self._sockets:
                    other.close()
                os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index - 1]})
                _work(theirs, self._fds[0], self._fds[index], processor, jobs)
            finally:
                os._exit(0)
        theirs.close()
        self._sockets.append(ours)

    def window(self, workers: list[int], seconds: float) -> tuple[float, float]:
        """(images per second of these workers together, CPU milliseconds of an image). Negative seconds: spin."""
        for index in workers:
            self._sockets[index].sendall(ORDER.pack(seconds))
        reports = [REPORT.unpack(self._sockets[index].recv(REPORT.size, socket.MSG_WAITALL)) for index in workers]
        rate = sum(images / wall_s for images, wall_s, _ in reports)
        return rate, 1000 * sum(cpu_s for _, _, cpu_s in reports) / sum(images for images, _, _ in reports)

    def close(self) -> None:
        for index in range(len(self._sockets)):
            self._sockets[index].close()
        for _ in self._sockets:
            os.wait()


def _work(orders: socket.socket, media_fd: int, features_fd: int, processor: ImageProcessor, jobs: Any) -> None:
    worker = Jobs(
        Processors("float32", processor),
        media=RegionMapping(reopen_read_only(media_fd), MEDIA_BYTES, writable=False),
        features=RegionMapping(features_fd, FEATURES_BYTES, writable=True),
    )
    position = 0

    def image() -> None:
        nonlocal position
        assert isinstance(worker.answer(jobs[position % len(jobs)]), Materialised)
        position += 1

    while order := orders.recv(ORDER.size, socket.MSG_WAITALL):
        (seconds,) = ORDER.unpack(order)
        orders.sendall(REPORT.pack(*_repeat(image if seconds > 0 else _spin_once, abs(seconds))))


def _spin_once() -> None:
    spin(3_000_000)


def _repeat(run: Callable[[], None], seconds: float) -> tuple[float, float, float]:
    """(runs, wall seconds, CPU seconds)."""
    count, started_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while (taken_s := time.perf_counter() - started_s) < seconds:
        run()
        count += 1
    return count, taken_s, time.process_time() - cpu_s


def measure(pool: Pool, workers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Windows in turn; see the top of the file."""
    windows = [[index] for index in range(workers)] + [list(range(workers))]
    pool.window(windows[-1], seconds / 2)  # warm
    single, together, ratios, cpu_one, cpu_all = [], [], [], [], []
    for turn in range(rounds):
        rates = {}
        for place in range(len(windows)):
            chosen = windows[(place + turn) % len(windows)]
            rates[tuple(chosen)] = pool.window(chosen, seconds)
        ones = [rates[index,] for index in range(workers)]
        everyone = rates[tuple(range(workers))]
        single.append(statistics.mean(rate for rate, _ in ones))
        together.append(everyone[0])
        ratios.append(together[-1] / single[-1])
        cpu_one.append(statistics.mean(cpu for _, cpu in ones))
        cpu_all.append(everyone[1])
    return {
        "one": statistics.median(single),
        "all": statistics.median(together),
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "ratio_by_cpu": workers * statistics.median(cpu_one) / statistics.median(cpu_all),
        "cpu_ms_one": statistics.median(cpu_one),
        "cpu_ms_all": statistics.median(cpu_all),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-pixels", type=int, default=1280 * 28 * 28)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processor = image_processor(model_folder(Path(folder), arguments.max_pixels))
    processor.warm()
    pool = Pool(processor, arguments.workers)
    report: dict[str, Any] = {
        "environment": {
            "cores": len(os.sched_getaffinity(0)),
            "load_1min": os.getloadavg()[0],
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "image": {"size": SIZE, "jpeg_bytes": pool.media_bytes, "features_bytes": pool.features_bytes},
        "images": measure(pool, arguments.workers, arguments.rounds, arguments.seconds),
        "spin": measure(pool, arguments.workers, max(arguments.rounds // 2, 2), -arguments.seconds / 2),
    }
    pool.close()
    for name in ("images", "spin"):
        found = report[name]
        print(
            f"{name:7} one worker {found['one']:7.1f}/s, {arguments.workers} workers {found['all']:7.1f}/s, "
            f"ratio {found['ratio']['median']:.2f} ({found['ratio']['low']:.2f} to {found['ratio']['high']:.2f}), "
            f"by CPU time {found['ratio_by_cpu']:.2f} ({found['cpu_ms_one']:.2f} -> {found['cpu_ms_all']:.2f} ms each)"
        )
    print(report["environment"], report["image"])
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
