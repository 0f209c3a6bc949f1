"""An unopened image: what vLLM needs to know about it, and the features that the sidecar has made."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from mmplane.embed.hold import SidecarHold

_COUNTED = "mmplane_counted"


class SidecarImage(Image.Image):
    """Looks like an image from vLLM's loader, in mode RGB and upright, but has no pixels until they are needed.

    `features` are the arrays that the sidecar has made for `options`, by name; None until they were requested. They
    are views that `hold` keeps resident, or this process's own copies.
    """

    def __init__(self, content: bytes, size: tuple[int, int]) -> None:
        super().__init__()
        self._mode, self._size = "RGB", size
        self.content = content
        self.options: dict[str, Any] = {}
        self.features: dict[str, torch.Tensor] | None = None
        self.hold: SidecarHold | None = None

    def fill(self, hold: SidecarHold, options: dict[str, Any]) -> None:
        """Attach features that are in the arena."""
        self.features, self.hold, self.options = hold.arrays(torch), hold, options

    def detach(self) -> None:
        """Copy the features out of the arena."""
        if self.features is not None and self.hold is not None:
            self.features, self.hold = {name: one.clone() for name, one in self.features.items()}, None

    def getexif(self) -> Image.Exif:
        """Empty: vLLM's hash looks for an id that no file can have, and reading the data decodes some formats."""
        return Image.Exif()

    def load(self) -> Any:
        """Decode like vLLM. Raises ValueError with vLLM's text."""
        if self._im is None:
            self.im = self.decoded().im
        return super().load()

    def decoded(self) -> Image.Image:
        """Return what vLLM's own loader makes of it."""
        image: Image.Image = ImageMediaIO().load_bytes(self.content).media
        return image


def decoded(image: Any) -> Any:
    """Return the image for a processor that needs pixels; anything but an unopened image stays as it is."""
    return image.decoded() if isinstance(image, SidecarImage) else image


def marked_counted(image: Any) -> Any:
    """Return the image, which is left to vLLM and was counted."""
    if isinstance(image, Image.Image):
        setattr(image, _COUNTED, True)
    return image


def is_counted(image: Any) -> bool:
    """Whether it was left to vLLM."""
    return hasattr(image, _COUNTED)
