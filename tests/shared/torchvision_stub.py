"""transformers' own processors with the torchvision backend beside a CPU torch: a program, the reference for videos.

torchvision's wheel is linked to CUDA: its operators do not load beside a CPU torch, and importing it fails where it
adds to operators that are not there. transformers' processors use none of them, only what torchvision writes in Python;
so the missing operators are declared first. This runs in a process of its own, with torchvision in a folder that
nothing else has on its path: to the rest of the suite it is not installed.

    python torchvision_stub.py FOLDER

FOLDER is where torchvision was installed with `pip install --no-deps --target FOLDER`. Each line of standard input is
the path of a request, each line of standard output says that `<path>.npz` holds the answer; see `video_reference.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

OPERATORS = ("nms", "qnms")
"""What torchvision adds to when it is imported, without a check that it is there."""


def declare() -> torch.library.Library:
    """The operators' names, without code behind them. They go away with what is returned."""
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def answer(processor: Any, frames: Any, text: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """What the whole processor gives for one text with one clip."""
    options = {"do_sample_frames": metadata.pop("sample", None), "num_frames": metadata.pop("num_frames", None)}
    videos_kwargs = {"video_metadata": [metadata], **options}
    given = {name: value for name, value in videos_kwargs.items() if value is not None}
    outputs = processor(text=[text], videos=[frames], return_tensors="np", videos_kwargs=given)
    return {name: np.asarray(value) for name, value in outputs.items() if name != "video_metadata"}


def main() -> None:
    sys.path.append(sys.argv[1])
    library = declare()
    from transformers import AutoProcessor  # only now: it looks for torchvision

    for line in sys.stdin:
        request = json.loads(Path(line.strip()).read_text())
        frames = np.load(request["frames"])
        try:
            processor = AutoProcessor.from_pretrained(request["folder"], trust_remote_code=False)
            found = answer(processor, frames, request["text"], request["metadata"])
        except ValueError as error:
            found = {"error": np.array(str(error))}
        np.savez(line.strip() + ".npz", **found)
        print("done", flush=True)
    del library


if __name__ == "__main__":
    main()
