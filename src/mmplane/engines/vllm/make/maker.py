"""Requests features from the sidecar, in vLLM's API process.

Images are requested when their bytes arrive, by several threads at once, with the options that were used last. The
options of a request are known only later, to the processor, which requests the image again if they differ. If features
do not stay in the arena, the same threads copy them. Images that the processor has had before are not requested early,
because vLLM's own cache, whose keys are over the encoded bytes, most likely has them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import torch
import vllm.envs as envs
from blake3 import blake3
from vllm.exceptions import GracefulHTTPError

from mmplane.core.errors import RequestError
from mmplane.embed.client import Client
from mmplane.embed.errors import Full, SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.make.figures import Figures
from mmplane.engines.vllm.make.image import SidecarImage
from mmplane.engines.vllm.make.reasons import NotMade
from mmplane.media.header import read_header

SEEN_MAX = 65536
"""Digests of images that are probably in vLLM's cache."""


class Overloaded(GracefulHTTPError):  # type: ignore[misc]
    """The sidecar has no room now: the client is asked to retry, as with vLLM's own limits."""

    def __init__(self) -> None:
        super().__init__(
            "The server has no memory for more media at the moment. Please try again later.",
            HTTPStatus.SERVICE_UNAVAILABLE,
        )


class Maker:
    """One for each API process. `client` returns the attached client, or None until there is one.

    `keeps` tells whether the cache of the current request accepts features in the arena.
    """

    def __init__(self, client: Callable[[], Client | None], tally: Tally) -> None:
        self.tally = tally
        self.figures = Figures()
        self.keeps = False
        self._client = client
        self._options: dict[str, Any] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, content: bytes) -> SidecarImage:
        """Return an image whose bytes have arrived. Raises NotMade if vLLM's loader has to open it, Overloaded."""
        try:
            header = read_header(content)
        except RequestError:
            raise NotMade("file") from None
        if 0 < envs.VLLM_MAX_IMAGE_PIXELS < header.width * header.height:
            raise NotMade("pixels")
        image = SidecarImage(content, (header.width, header.height))
        if self.keeps or blake3(content).digest() not in self._seen:
            self._fill(image, self._options)
        return image

    def make(self, image: SidecarImage, options: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the image's features with these options. Raises NotMade, Overloaded."""
        self._options = options
        if image.features is None or image.options != options:
            self._fill(image, options)
        elif not self.keeps:
            image.detach()
        if not self.keeps:  # else `open` does not ask
            self._remember(image.content)
        assert image.features is not None
        return image.features

    def _fill(self, image: SidecarImage, options: dict[str, Any]) -> None:
        image.fill(self._ask(image.content, options), options)
        if not self.keeps:
            image.detach()

    def _ask(self, content: bytes, options: Mapping[str, Any]) -> SidecarHold:
        client = self._client()
        if client is None:
            raise NotMade("absent")
        try:
            return client.materialise(content, modality="image", options=options)
        except Full:
            raise Overloaded from None
        except SidecarError as error:
            raise NotMade.by(error) from error

    def _remember(self, content: bytes) -> None:
        digest = blake3(content).digest()
        with self._lock:
            self._seen[digest] = None
            self._seen.move_to_end(digest)
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
