"""What transformers' torchvision backend computes with, in torch alone: the reference of the video path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmplane.features import kernels
from mmplane.features.parity import PARITY_SIZES
from mmplane.features.processor import Pixels
from mmplane.features.resize import Resize

FILTERS = {kernels.BILINEAR: "bilinear", kernels.BICUBIC: "bicubic"}
"""torch's names of the filters that are built."""


def resizes_as_torch(kind: int) -> bool:
    """Whether the compiled loops give torch's bits for noise of the sizes of `PARITY_SIZES`."""
    noise = np.random.default_rng(0)
    for (width, height), (to_width, to_height) in zip(PARITY_SIZES, reversed(PARITY_SIZES), strict=True):
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resize = Resize.whole(to_width, to_height, kind, as_torch=True)
        ((_, ours),), ((_, theirs),) = resize.bands(pixels, to_height), torch_bands(resize, pixels, 0)
        if not np.array_equal(ours, theirs):
            return False
    return True


def torch_bands(resize: Resize, pixels: Pixels, _: int) -> Iterator[tuple[int, kernels.Bytes]]:
    """One band, the whole frame, resized as torchvision does it: antialiased, in 8 bits."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    size = [resize.height, resize.width]
    if planes.shape[1:] != torch.Size(size):
        planes = torch.nn.functional.interpolate(
            planes[None], size=size, mode=FILTERS[resize.kind], align_corners=False, antialias=True
        )[0]
    yield 0, planes.contiguous().numpy()


def float_table(options: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what `TorchvisionBackend.rescale_and_normalize` makes of each 8-bit value of each channel."""
    ramp = torch.arange(256, dtype=torch.float32).expand(3, 256)
    factor = options["rescale_factor"]
    if not options["do_normalize"]:
        return np.ascontiguousarray((ramp * factor).numpy())
    mean, std = torch.tensor(options["image_mean"])[:, None], torch.tensor(options["image_std"])[:, None]
    if options["do_rescale"]:
        mean, std = mean * (1.0 / factor), std * (1.0 / factor)
    return np.ascontiguousarray(((ramp - mean) / std).numpy())
