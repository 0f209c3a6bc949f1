"""transformers' own processors with the torchvision backend beside a CPU torch: a program, the reference for tests.

torchvision's wheel is linked to CUDA: its operators do not load beside a CPU torch, and importing it fails where it
adds to operators that are not there. transformers' processors use none of them, only what torchvision writes in Python;
so the missing operators are declared first. Beside a torch for CUDA none is missing. This runs in a process of its
own, with torchvision in a folder that nothing else has on its path: to the rest of the suite it is not installed.

    python torchvision_stub.py FOLDER

FOLDER is where torchvision was installed with `pip install --no-deps --target FOLDER`. Each line of standard input is
the path of a request, each line of standard output says that `<path>.npz` holds the answer (`torchvision_reference`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmplane.features.checkpoint.defaults import IMAGES
from mmplane.features.checkpoint.words import in_words

OPERATORS = ("nms", "qnms")
"""What torchvision adds to when it is imported, without a check that it is there."""

Request = Mapping[str, Any]
Arrays = Mapping[str, Any]


def declare() -> torch.library.Library:
    """The operators' names, without code behind them. They go away with what is returned."""
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def clip(request: Request, given: Arrays) -> Arrays:
    """What the whole processor gives for one text with one clip."""
    from transformers import AutoProcessor
    from transformers.models.smolvlm import processing_smolvlm

    processing_smolvlm.num2words = in_words  # a package that only its clips need
    processor = AutoProcessor.from_pretrained(request["folder"], trust_remote_code=False)
    metadata = request["metadata"]
    options = {"do_sample_frames": metadata.pop("sample", None), "num_frames": metadata.pop("num_frames", None)}
    arguments, tensors = metadata.pop("arguments", {}), metadata.pop("tensors", "np")
    videos_kwargs = {"video_metadata": [metadata], **options}
    kept = {name: value for name, value in videos_kwargs.items() if value is not None} | arguments
    outputs = processor(text=[request["text"]], videos=[given["frames"]], return_tensors=tensors, videos_kwargs=kept)
    return {name: np.asarray(value) for name, value in outputs.items() if name != "video_metadata"}


def clips(request: Request, given: Arrays) -> Arrays:
    """The features that the video processor alone gives for each."""
    from transformers import AutoVideoProcessor

    processor = AutoVideoProcessor.from_pretrained(request["folder"], trust_remote_code=False)
    return {
        name: next(iter(processor([frames], return_tensors="np", **request["arguments"]).values()))
        for name, frames in given.items()
    }


def generic_clip(request: Request, given: Arrays) -> Arrays:
    """What the generic path makes of a clip's file, by the shared code of all workers."""
    from transformers.models.smolvlm import processing_smolvlm

    from mmplane.core.errors import RequestError
    from mmplane.core.records import Ask
    from mmplane.features.choice import Processors
    from mmplane.features.contract.arrays import views
    from mmplane.features.select import generic_clips
    from mmplane.media.materialise import examine, materialise

    processing_smolvlm.num2words = in_words
    processors, media = Processors("float32", video=generic_clips(request["folder"], "float32")), bytes(given["media"])
    try:
        recipe = examine(processors, media, Ask("video", arguments=request["arguments"]))
    except RequestError as error:
        return {"refused": np.array(str(error))}
    slot = memoryview(bytearray(b"\xaa" * recipe.layout.length_bytes))
    made = materialise(processors, media, recipe, slot)
    arrays = views(recipe.layout.tensors, slot)
    assert made.bytes_written == sum(array.nbytes for array in arrays.values())
    return {**arrays, "expansion": np.array(recipe.layout.expansion)}


def images(request: Request, given: Arrays) -> Arrays:
    """What the image processor gives for each: `N NAME` or `N refused`, and `N bytes` without its arithmetic."""
    from transformers.models.smolvlm import processing_smolvlm

    from mmplane.features.reference.checkpoint import ReferenceCheckpoint

    processing_smolvlm.num2words = str
    checkpoint = ReferenceCheckpoint.load(request["folder"], request["backend"])
    answers = (image(checkpoint, pixels, as_bytes=request["bytes"]) for pixels in given.values())
    named = zip(given, answers, strict=True)
    return {f"{number} {name}": value for number, answer in named for name, value in answer.items()}


def image(checkpoint: Any, pixels: Any, *, as_bytes: bool = False) -> Arrays:
    """What it gives for one."""
    from mmplane.features.reference.checkpoint import as_array

    picture = Image.fromarray(pixels)
    try:
        outputs, expansion = checkpoint.replacement(picture)
    except (ValueError, RuntimeError) as error:
        return {"refused": np.array(str(error))}
    found = {name: as_array(outputs[name]) for name in checkpoint.input_names} | {"expansion": np.array(expansion)}
    if as_bytes:
        raw = dict(checkpoint.images_kwargs) | {"do_rescale": False, "do_normalize": False}
        found["bytes"] = as_array(checkpoint.processor._process_images([picture], **raw)[0]["pixel_values"])
    return found


def defaults(kind: Any) -> dict[str, Any]:
    """What a class of image processors takes for each option where nothing is given."""
    names = ("default_to_square", *kind.valid_kwargs.__annotations__)
    found = {name: getattr(kind, name, None) for name in (*names, *IMAGES)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def options(request: Request, _: Arrays) -> Arrays:
    """The same of a class that needs torchvision, as JSON."""
    import transformers

    return {"defaults": np.array(json.dumps(defaults(getattr(transformers, request["class"]))))}


def verdict(request: Request, _: Arrays) -> Arrays:
    """What a process that has torchvision and transformers loaded, as an engine has them, finds and remembers."""
    import transformers  # noqa: F401

    from mmplane.features.verdict import verdicts_of

    os.environ["XDG_CACHE_HOME"] = request["cache"]
    return {"verdict": np.array(verdicts_of(request["folder"], ["image"], "torchvision")["image"])}


ANSWERS: Mapping[str, Callable[[Request, Arrays], Arrays]] = {
    "clip": clip,
    "clips": clips,
    "generic clip": generic_clip,
    "images": images,
    "options": options,
    "verdict": verdict,
}


def main() -> None:
    sys.path.append(sys.argv[1])
    torch.set_num_threads(1)  # images are small here
    library = declare() if torch.version.cuda is None else None
    for line in sys.stdin:
        request = json.loads(Path(line.strip()).read_text())
        with np.load(request["given"]) as given:
            try:
                found = ANSWERS[request["kind"]](request, dict(given))
            except ValueError as error:
                found = {"error": np.array(str(error))}
        np.savez(line.strip() + ".npz", **found)
        print("done", flush=True)
    del library


if __name__ == "__main__":
    main()
