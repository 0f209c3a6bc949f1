"""How soon a torch-free media plane is ready, and what one of its workers takes.

    python benchmarks/media_start.py [--model FOLDER] [--workers 2] [--rounds 5] [--json FILE]

A fresh process imports what a sidecar's processes need (`mmplane.items`, `mmplane.media`, `mmplane.features`), forks
the workers, and each of them loads the checkpoint's processors, warms them and makes the features of a 1288x966 JPEG in
a region of its own. Printed are, of each round: seconds until the imports are done and until all workers are warm, both
from the start of the process, and of the largest worker: PSS without the region, and private memory.

The kernels' cache and the verdict are warm: a first round, which is not counted, compiles and compares. Bias: there is
no socket and no supervisor, and a worker has made one picture and no clip.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MB = 1e6
SIZE = (1288, 966)
REGION = "memfd:"


def worker(model: str, media: bytes) -> dict[str, float]:
    """Load, warm, make one picture's features in a region; what this process takes then."""
    from mmplane.arena.segment import RegionMapping, create_region
    from mmplane.config import Config
    from mmplane.core.records import Ask
    from mmplane.features.choice import choose
    from mmplane.media.materialise import examine, materialise

    processors = choose(Config(model="", model_folder=model, served_name="", device="cpu"))
    processors.warm()
    warm_s = time.monotonic()
    recipe = examine(processors, media, Ask("image"))
    length_bytes = recipe.layout.length_bytes
    region = RegionMapping(create_region("media_start", length_bytes), length_bytes, writable=True)
    materialise(processors, media, recipe, region.view(0, length_bytes))
    return {"warm_s": warm_s, **memory()}


def memory() -> dict[str, float]:
    """PSS and private bytes of this process in MB, without the region."""
    pss = private = 0
    for name, kind, kilobytes in mappings():
        if REGION not in name:
            pss += kilobytes if kind == "Pss:" else 0
            private += kilobytes if kind in ("Private_Clean:", "Private_Dirty:") else 0
    return {"pss_mb": pss * 1024 / MB, "private_mb": private * 1024 / MB}


def mappings() -> Iterator[tuple[str, str, int]]:
    """(mapping, kind of memory, kB) of this process."""
    name = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            name = line
        elif rest[-1] == "kB":
            yield name, first, int(rest[0])


def plane(model: str, media: bytes, workers: int) -> dict[str, Any]:
    """The process tree of one round; it prints what `measured` reads."""
    import mmplane.items.pool
    import mmplane.items.store
    import mmplane.media.worker  # noqa: F401 - with all that a worker imports

    imported_s = time.monotonic()
    ready, done = os.pipe(), os.pipe()
    for _ in range(workers):
        if os.fork() == 0:
            found = worker(model, media)
            os.write(ready[1], json.dumps(found).encode() + b"\n")
            os.read(done[0], 1)  # all are measured while all are there
            os._exit(0)
    lines: list[bytes] = []
    while len(lines) < workers:
        lines = b"".join([*lines, os.read(ready[0], 65536)]).splitlines(keepends=True)
    os.write(done[1], b"." * workers)
    for _ in range(workers):
        os.wait()
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    return {"imported_s": imported_s, "workers": [json.loads(line) for line in lines], "loaded": loaded}


def measured(model: str, media: Path, workers: int) -> dict[str, float]:
    """One round, seen from outside."""
    command = [sys.executable, __file__, "--model", model, "--workers", str(workers), "--plane", str(media)]
    started_s = time.monotonic()
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert not found["loaded"], found["loaded"]
    return {
        "imported_s": found["imported_s"] - started_s,
        "ready_s": max(each["warm_s"] for each in found["workers"]) - started_s,
        "pss_mb": max(each["pss_mb"] for each in found["workers"]),
        "private_mb": max(each["private_mb"] for each in found["workers"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", default="tiny", help="a checkpoint folder (default: the built-in model)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rounds there")
    parser.add_argument("--plane", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plane:
        print(json.dumps(plane(options.model, options.plane.read_bytes(), options.workers)))
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        model, media = options.model, Path(folder, "picture.jpg")
        if model == "tiny":
            from mmplane.models.tiny import build_tiny

            model = str(Path(folder, "tiny"))
            Path(model).mkdir()
            build_tiny(Path(model))
        media.write_bytes(photograph())
        rounds = [measured(model, media, options.workers) for _ in range(options.rounds + 1)][1:]
    for name in rounds[0]:
        values = sorted(each[name] for each in rounds)
        print(f"{name:12} median {statistics.median(values):7.2f}  {values[0]:7.2f} to {values[-1]:.2f}")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1))


def photograph() -> bytes:
    """A JPEG with detail everywhere."""
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(SIZE).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
