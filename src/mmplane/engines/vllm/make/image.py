"""An image that nobody has opened: what vLLM needs to know of it, and the features that the sidecar has made of it."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from vllm.multimodal.media.image import ImageMediaIO

from mmplane.embed.hold import SidecarHold

_COUNTED = "mmplane_counted"


class SidecarImage(Image.Image):
    """As vLLM's loader would give it, in mode RGB and upright, but without pixels until somebody asks for them.

    `features` are the arrays that the sidecar has made of it for `options`, by name; None until it was asked for them.
    Either they are views, which `hold` keeps resident, or this process's own.
    """

    def __init__(self, content: bytes, size: tuple[int, int]) -> None:
        super().__init__()
        self._mode, self._size = "RGB", size
        self.content = content
        self.options: dict[str, Any] = {}
        self.features: dict[str, torch.Tensor] | None = None
        self.hold: SidecarHold | None = None

    def fill(self, hold: SidecarHold, options: dict[str, Any]) -> None:
        """With features that lie in the arena."""
        self.features, self.hold, self.options = hold.arrays(torch), hold, options

    def detach(self) -> None:
        """Copy the features out of the arena."""
        if self.features is not None and self.hold is not None:
            self.features, self.hold = {name: one.clone() for name, one in self.features.items()}, None

    def getexif(self) -> Image.Exif:
        """Nothing: vLLM's hash looks for an id that no file can have, and reading it decodes some formats."""
        return Image.Exif()

    def load(self) -> Any:
        """Decode, as vLLM does. Raises ValueError in vLLM's words."""
        if self._im is None:
            self.im = self.decoded().im
        return super().load()

    def decoded(self) -> Image.Image:
        """What vLLM's own loader makes of it."""
        image: Image.Image = ImageMediaIO().load_bytes(self.content).media
        return image


def decoded(image: Any) -> Any:
    """For a processor that needs pixels; what is no unopened image stays as it is."""
    return image.decoded() if isinstance(image, SidecarImage) else image


def marked_counted(image: Any) -> Any:
    """The image, which was left to vLLM and counted."""
    if isinstance(image, Image.Image):
        setattr(image, _COUNTED, True)
    return image


def is_counted(image: Any) -> bool:
    """Whether it was."""
    return hasattr(image, _COUNTED)
