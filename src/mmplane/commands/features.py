"""`mmplane features`: computes the features of many files on all cores, one safetensors file for each."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from mmplane.arena.memory import memory_available_bytes
from mmplane.commands.checkpoint import check_files
from mmplane.commands.model import model_folder
from mmplane.commands.options import BACKENDS, DECODE_PROFILES, ENCODINGS, RANGES
from mmplane.commands.starting import WORKERS_MAX, arena_for, refuse, workers_for
from mmplane.embed.errors import SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.sidecar import Sidecar
from mmplane.machine import cores_usable
from mmplane.parser import Parser
from mmplane.ranges import Range

EXAMPLE = "mmplane features --model ./Qwen2.5-VL-3B-Instruct photo.jpg clip.mp4 --out features --encoding model"


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane features", description=__doc__, example=EXAMPLE)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images, clips and sounds")
    parser.add_argument("--model", required=True, help="a checkpoint folder (its JSON files suffice), or tiny")
    parser.add_argument("--out", required=True, type=Path, help="a folder for NAME.safetensors of each NAME.jpg")
    parser.add_argument("--encoding", choices=ENCODINGS, default="float32", help="what the values are written as")
    parser.add_argument("--backend", choices=BACKENDS, default="pil", help="whose bits images have")
    parser.add_argument(
        "--decode-profile",
        choices=DECODE_PROFILES,
        default="mmplane",
        help="which image loader to match, bit for bit",
    )
    parser.add_argument(
        "--generic", action="store_true", help="run transformers' own processor in workers if there is no fast one"
    )
    workers = Range(int, 1, WORKERS_MAX)
    parser.add_argument("--workers", type=workers, default=None, help="processes (default: one for each core)")
    parser.add_argument(
        "--arena-bytes",
        type=RANGES["arena_bytes"],
        default=None,
        help="shared memory, reserved at start (default: by cores and memory)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 1 if a file failed (it is named), and 2 if nothing could be done."""
    options = options_parser().parse_args(arguments)
    twice = [name for name, times in Counter(path.stem for path in options.files).items() if times > 1]
    if twice:
        return refuse(ValueError(f"several files are called {twice[0]}: their features would have one name"))
    if missing := [path for path in options.files if not path.is_file()]:
        return refuse(ValueError(f"{missing[0]} is no file"))
    try:
        check_files(model_folder(options.model))
        options.out.mkdir(parents=True, exist_ok=True)
        cores = cores_usable()
        arena_bytes = options.arena_bytes or arena_for(cores, memory_available_bytes())
        with Sidecar.start(
            model=options.model,
            workers=options.workers or workers_for(cores, arena_bytes, cores_each=1),
            arena_bytes=arena_bytes,
            backend=options.backend,
            encoding=options.encoding,
            profile=options.decode_profile,
            generic=options.generic,
        ) as sidecar:
            return _write_all(sidecar, options.files, options.out)
    except (OSError, ValueError, SidecarError) as error:
        return refuse(error)


def _write_all(sidecar: Sidecar, files: Sequence[Path], out: Path) -> int:
    failed = 0
    shown = tqdm(files, unit="file", disable=None)  # a bar at a terminal, and none in a log
    for path, made in zip(shown, sidecar.map(files, failures=True), strict=True):
        if isinstance(made, SidecarHold):
            with made:
                write(made, out / f"{path.stem}.safetensors")
        else:
            failed += 1
            tqdm.write(f"mmplane: {path}: {made}", file=sys.stderr)
        del made
    return 1 if failed else 0


def write(hold: SidecarHold, path: Path) -> None:
    """Write an item's arrays to a safetensors file, which is then complete or does not exist."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: np.ascontiguousarray(array) for name, array in hold.arrays(np).items()}, written)
    written.rename(path)
