"""Checks whether a fast processor matches the reference: layout, companions and every bit of the features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmplane.core.errors import RequestError
from mmplane.core.records import BackendName, Modality
from mmplane.features.arithmetic.encodings import Array
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.checkpoint.frames import FrameCheckpoint
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.checkpoint.video import VideoCheckpoint
from mmplane.features.contract.arrays import views
from mmplane.features.contract.audio import Samples
from mmplane.features.contract.image import ImageProcessor, Pixels
from mmplane.features.families.log_mel import LogMelProcessor
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.sounds import numpy_path
from mmplane.features.reference.torch_frames import torch_bands

PARITY_SIZES = ((113, 64), (61, 150), (200, 96), (40, 31), (310, 430), (460, 450))
"""(width, height) in pixels of the test images: scaled down and up, and for most models in both orders of passes.

The last one is larger than the tiles of published models.
"""

PARITY_SAMPLES = (50, 4_001, 16_000)
"""Lengths of the test sounds."""


def agree(fast: ImageProcessor, reference: ImageProcessor) -> bool:
    """Whether two processors give the same on noise of the sizes of `PARITY_SIZES`."""
    noise = np.random.default_rng(0)
    return all(
        same(fast, reference, noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in PARITY_SIZES
    )


def same(fast: ImageProcessor, reference: ImageProcessor, pixels: Pixels) -> bool:
    """Whether two processors give the same layout and the same bits for one image; False if one refuses it."""
    height, width, _ = pixels.shape
    try:
        if fast.layout(width, height) != reference.layout(width, height):
            return False
        one, other = materialise(fast, pixels), materialise(reference, pixels)
    except RequestError:
        return False
    return all(one[name].tobytes() == other[name].tobytes() for name in other)


def difference(fast: ImageProcessor, reference: ImageProcessor, pixels: Pixels) -> float:
    """The largest absolute difference of any value of two processors' arrays; infinity if a shape differs."""
    one, other = materialise(fast, pixels), materialise(reference, pixels)
    if {name: array.shape for name, array in one.items()} != {name: array.shape for name, array in other.items()}:
        return float("inf")
    return max(float(np.abs(np.subtract(one[name], other[name], dtype=np.float64)).max()) for name in other)


def materialise(processor: ImageProcessor, pixels: Pixels) -> dict[str, Array]:
    """The arrays of one image, in separate memory."""
    layout = processor.layout(pixels.shape[1], pixels.shape[0])
    arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
    processor.write(pixels, arrays)
    return arrays


def resizes_as_torch(kind: int) -> bool:
    """Whether the compiled loops give torch's bits for noise of the sizes of `PARITY_SIZES`."""
    noise = np.random.default_rng(0)
    for (width, height), (to_width, to_height) in zip(PARITY_SIZES, reversed(PARITY_SIZES), strict=True):
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resize = Resize.whole(to_width, to_height, kind, as_torch=True)
        try:
            ((_, ours),), ((_, theirs),) = resize.bands(pixels, to_height), torch_bands(resize, pixels, 0)
        except (ValueError, NotImplementedError):  # an older torch, beside which torchvision takes another filter
            return False
        if not np.array_equal(ours, theirs):
            return False
    return True


def ulps_apart(checkpoint: AudioCheckpoint, samples: Samples) -> int:
    """The largest difference of any value from transformers' NumPy path, in units of the last place of float32."""
    theirs = numpy_path(checkpoint, samples)
    ours = np.empty_like(theirs)
    LogMelProcessor(checkpoint)._fill(samples[: checkpoint.samples_max], ours[0])
    return int(np.abs(_ordered(ours) - _ordered(theirs)).max())


def clips_of(model_folder: str) -> tuple[str, int]:
    """The class of a checkpoint's video processor that a fast path may serve, and its filter. Raises ValueError."""
    checkpoint: FrameCheckpoint | VideoCheckpoint
    try:
        checkpoint = FrameCheckpoint.load(model_folder, KNOWN)
    except ValueError:
        checkpoint = VideoCheckpoint.load(model_folder, KNOWN)
    return checkpoint.kind, int(checkpoint.options["resample"])


def _ordered(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Integers in the order of the values, 1 apart where no float32 lies between."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def compare(model_folder: str, modality: Modality, backend: BackendName = "pil") -> bool:
    """Whether the fast path of one modality matches transformers. Raises ValueError if there is none.

    `backend` is for images: clips and sounds have only one arithmetic.
    """
    if modality == "image":
        own = ImageCheckpoint.load(model_folder, KNOWN, backend)
        reference = HuggingFaceImageProcessor.load(model_folder, backend)
        return own.placeholder_id == reference.placeholder_id and agree(FAST[own.kind](own, "float32"), reference)
    if modality == "video":
        return resizes_as_torch(clips_of(model_folder)[1])
    checkpoint, noise = AudioCheckpoint.load(model_folder, KNOWN), np.random.default_rng(0)
    sounds = [noise.uniform(-1, 1, samples).astype(np.float32) for samples in PARITY_SAMPLES]
    return all(ulps_apart(checkpoint, samples) <= 1 for samples in sounds)
