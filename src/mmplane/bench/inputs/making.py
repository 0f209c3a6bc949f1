"""Creates a load before the clock starts: the media, and the digests that every rank must compute.

The expected digest of a picture is computed from the file by Pillow and the checkpoint's image processor, without
mmplane's decoders and transforms. A wrong picture, or one of another request, is therefore detected with any delivery.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from math import prod
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from blake3 import blake3
from PIL import Image
from transformers import AutoImageProcessor

from mmplane.bench.inputs.sources import FRAMES_MAX, Kind, Source, encoded
from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask, Modality, Recipe
from mmplane.features.choice import Processors, choose
from mmplane.features.simulated import fill
from mmplane.media.materialise import examine, materialise

Result = TypeVar("Result")


class Made(msgspec.Struct, frozen=True):
    """One item: its file, the digest that ranks must report (None: not known here), and the length of its features."""

    media: bytes
    digest: str | None
    features_bytes: int = 0
    kind: Kind = "image"


def made(sources: tuple[Source | bytes, ...], model_folder: str) -> Iterator[Made]:
    """Create the items, in order, using all cores."""
    if not sources:
        return
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(partial(make, model_folder), sources, chunksize=max(1, len(sources) // (cores * 16)))


def apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run `work` in a separate process and return its result. This process never computes, so it can be forked."""
    return _in_processes(1, work, arguments)[0]


def on_all_cores(work: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Run `work` on every core at once, each in a separate process, and return the results.

    A core may be slower while the others are busy: they share caches, memory and sometimes execution units.
    """
    return _in_processes(len(os.sched_getaffinity(0)), work, arguments)


def _in_processes(processes: int, work: Callable[..., Result], arguments: Sequence[Any]) -> list[Result]:
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        begun = [pool.submit(work, *arguments) for _ in range(processes)]
        return [each.result() for each in begun]


def make(model_folder: str, source: Source | bytes) -> Made:
    """Create one item."""
    media = source if isinstance(source, bytes) else encoded(source)
    kind = source.kind if isinstance(source, Source) else _kind(media)
    features_bytes = source.features_bytes if isinstance(source, Source) else 0
    reference = partial(_simulated, features_bytes) if features_bytes else REFERENCES[kind]
    try:
        features = reference(media, model_folder)
    except RequestError:
        return Made(media, None, 0, kind)  # the model takes no such items: the server will report it
    return Made(media, blake3(features.tobytes()).hexdigest(), features.nbytes, kind)


def _image(media: bytes, model_folder: str) -> np.ndarray[Any, Any]:
    features = image_processor(model_folder)([_pixels(media)], return_tensors="np")["pixel_values"]
    return np.ascontiguousarray(features, np.float32)


def _simulated(features_bytes: int, media: bytes, _: str) -> np.ndarray[Any, Any]:
    """The simulated decoder's result, without the waiting."""
    features = np.empty(features_bytes, np.uint8)
    fill(np.asarray(_pixels(media)), features)
    return features


def _pixels(media: bytes) -> Image.Image:
    with Image.open(io.BytesIO(media)) as image:
        return image.convert("RGB")


@cache
def image_processor(model_folder: str) -> Any:
    """The checkpoint's own processor, with the backend that needs no torchvision."""
    return AutoImageProcessor.from_pretrained(model_folder, backend="pil")


def _kind(media: bytes) -> Kind:
    if media[4:8] == b"ftyp":
        return "video"
    return "audio" if media.startswith(b"RIFF") else "image"


def recipe_of(modality: Modality, media: bytes, model_folder: str) -> Recipe:
    """Features like those of a server with this model."""
    return examine(_processors(model_folder), media, Ask(modality, frames_max=FRAMES_MAX))


def _own(modality: Modality, media: bytes, model_folder: str) -> np.ndarray[Any, Any]:
    """Computed with mmplane's own code in this process, because transformers' video classes need torchvision."""
    recipe = recipe_of(modality, media, model_folder)
    out = memoryview(bytearray(recipe.layout.length_bytes))
    materialise(_processors(model_folder), media, recipe, out)
    tensor = recipe.layout.tensors[0]
    return np.frombuffer(out, tensor.dtype, prod(tensor.shape), tensor.offset_bytes)


@cache
def _processors(model_folder: str) -> Processors:
    return choose(_config(model_folder))


def _config(model_folder: str) -> Config:
    # Features are floats, as on the bench's own servers: their default would be bytes.
    return Config(model=model_folder, model_folder=model_folder, served_name="", device="cpu", encoding="float32")


REFERENCES: dict[str, Callable[[bytes, str], np.ndarray[Any, Any]]] = {
    "image": _image,
    "video": partial(_own, "video"),
    "audio": partial(_own, "audio"),
}
"""The function that computes an item's expected features, by kind."""
