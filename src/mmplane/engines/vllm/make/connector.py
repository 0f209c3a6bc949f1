"""vLLM's media connector `mmplane`, which leaves the decoding of images to the sidecar."""

from __future__ import annotations

from typing import Any

from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector, MediaWithBytes
from vllm.multimodal.media.image import ImageMediaIO

from mmplane.engines.vllm.make.image import marked_counted
from mmplane.engines.vllm.make.maker import Maker
from mmplane.engines.vllm.make.plan import CONNECTOR
from mmplane.engines.vllm.make.reasons import NotMade
from mmplane.media.header import is_rgb

_maker: Maker | None = None


def use(maker: Maker) -> None:
    """From now on connectors of this process use this maker."""
    global _maker
    _maker = maker


class SidecarImageIO(ImageMediaIO):  # type: ignore[misc]
    """vLLM's loader of images. It has a maker only with its default arguments."""

    def __init__(self, maker: Maker, theirs: ImageMediaIO) -> None:
        super().__init__(theirs.image_mode, **theirs.kwargs)
        self._maker = maker
        self._is_default = vars(theirs) == vars(ImageMediaIO())

    def load_bytes(self, data: bytes) -> MediaWithBytes[Any]:
        """Raises Overloaded, and what vLLM's loader raises for images that are left to it."""
        try:
            if not self._is_default:
                raise NotMade("loader")
            image = self._maker.open(data)
        except NotMade as reason:
            self._maker.tally.seen()
            self._maker.tally.passed_over(str(reason))
            loaded = super().load_bytes(data)
            marked_counted(loaded.media)
            return loaded
        config = {"image_mode": self.image_mode, "rgba_background_color": self.rgba_background_color}
        return MediaWithBytes(image, data, None if is_rgb(data) else config)


@MEDIA_CONNECTOR_REGISTRY.register(CONNECTOR)
class SidecarConnector(MediaConnector):  # type: ignore[misc]
    """Fetch like vLLM's connector."""

    def load_from_url(self, url: str, media_io: Any, **more: Any) -> Any:
        """See vLLM's loader."""
        return super().load_from_url(url, _loader(media_io), **more)

    async def load_from_url_async(self, url: str, media_io: Any, **more: Any) -> Any:
        """See vLLM's loader."""
        return await super().load_from_url_async(url, _loader(media_io), **more)


def _loader(media_io: Any) -> Any:
    return SidecarImageIO(_maker, media_io) if _maker is not None and type(media_io) is ImageMediaIO else media_io
