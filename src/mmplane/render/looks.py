"""What media becomes, for a process that makes nothing: images from their header, clips and sounds from the sidecar.

Nothing is remembered here, so that all render processes give the same answers: a name without bytes is unknown.
"""

from __future__ import annotations

from mmplane.core.errors import bad_media, not_held
from mmplane.core.keys import content_key
from mmplane.core.records import Ask, Recipe
from mmplane.features.choice import Processors
from mmplane.frontend.request.looks import Looks
from mmplane.items.parked import MediaBytes, digest_of, view_of
from mmplane.media.materialise import examine
from mmplane.render.attached import Attached


class HeaderLooks(Looks):
    """The sidecar is not asked for images, unless only a worker knows their layout (`layout_is_cheap`)."""

    def __init__(self, processors: Processors, sidecar: Attached) -> None:
        self._processors = processors
        self._sidecar = sidecar

    def check_taken(self, ask: Ask) -> None:
        """See `Looks`."""
        if ask.embedded:
            _ = self._processors.for_embeddings
        self._processors.of(ask.modality)

    async def key(
        self,
        ask: Ask,
        content: MediaBytes | None,
        *,
        uuid: str | None,  # noqa: ARG002 - no names are known
        tenant: str,
    ) -> bytes:
        """See `Looks`; empty for an image, because vLLM's hash names it."""
        if content is None:
            raise not_held()
        if ask.modality == "image":
            return b""
        fingerprint = self._processors.fingerprint_of(ask.modality)
        return content_key(ask, fingerprint=fingerprint, tenant=tenant, media_digest=await digest_of(content))

    async def recipe(
        self,
        ask: Ask,
        key: bytes,  # noqa: ARG002 - nothing is remembered
        content: MediaBytes | None,
        *,
        tenant: str,
    ) -> Recipe:
        """See `Looks`."""
        assert content is not None
        media = view_of(content)
        if len(media) == 0:
            raise bad_media("the file is empty")
        if ask.modality == "image" and self._processors.for_images.layout_is_cheap:
            return examine(self._processors, media, ask)
        return Recipe(ask.modality, await self._sidecar.layout(media, ask, tenant=tenant))
