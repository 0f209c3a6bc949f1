"""What transformers' torchvision backend computes, using only torch: the reference of the video path."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.contract.image import Pixels

FILTERS = {kernels.BILINEAR: "bilinear", kernels.BICUBIC: "bicubic", kernels.LANCZOS: "lanczos"}
"""torch's names of the supported filters."""


def torch_bands(resize: Resize, pixels: Pixels, _: int) -> Iterator[tuple[int, kernels.Bytes]]:
    """One band, the whole frame, resized as torchvision does it: antialiased, in 8 bits."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    size = [resize.height, resize.width]
    if planes.shape[1:] != torch.Size(size):
        planes = torch.nn.functional.interpolate(
            planes[None], size=size, mode=FILTERS[resize.kind], align_corners=False, antialias=True
        )[0]
    yield 0, planes.contiguous().numpy()
