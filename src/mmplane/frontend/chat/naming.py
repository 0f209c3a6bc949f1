"""Names for the items of a request, as vLLM chooses them."""

from __future__ import annotations

import asyncio

from mmplane.core.vllm_hash import EncodedImage, image_hash
from mmplane.frontend.request.intake import Media
from mmplane.items.parked import LONG_BYTES, view_of
from mmplane.media.header import is_rgb


async def name_of(media: Media, model_id: str) -> str:
    """Return the client's own name for the item, or vLLM's hash of an image, in hex.

    vLLM hashes a clip's frames and a sound's samples. They are not decoded here, so such items are named by their
    content key. So are embeddings, which vLLM's clients send in another format.
    """
    if media.uuid is not None:
        return media.uuid
    if media.recipe.modality != "image" or media.recipe.embedded or media.content is None:
        return media.key.hex()
    data = view_of(media.content)
    if len(data) > LONG_BYTES:
        return await asyncio.to_thread(_hash, data, model_id)
    return _hash(data, model_id)


def _hash(data: bytes | memoryview, model_id: str) -> str:
    return image_hash(EncodedImage(data, is_rgb(data)), model_id=model_id)
