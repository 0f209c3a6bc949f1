"""What a caller asks of a sidecar: one item, by its media and options."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import msgspec
from blake3 import blake3
from msgspec import Meta

from mmplane.core.records import Count, Modality
from mmplane.embed.embeddings import Embeddings
from mmplane.embed.errors import BadOption
from mmplane.embed.media import MediaSource, content_of, modality_of
from mmplane.sidecar.records import ARGUMENTS_LENGTH_MAX, Media, Wish

LONG_BYTES = 1024 * 1024
"""If an event loop waits, a thread reads and hashes longer media."""

_encoder = msgspec.json.Encoder(order="deterministic")


class Asked(TypedDict, total=False):
    """The options for media.

    `modality` is needed if the first bytes do not show it. `options`: `side_max` shrinks an image so that its longer
    side has at most this many pixels; `frames` and `fps` limit a clip; every other one is an argument of the
    checkpoint's processor, with transformers' name: `min_pixels`, `max_pixels`, `size`, `do_normalize`, `num_frames`
    and so on. `tenant` salts the key.
    """

    modality: Modality | None
    options: Mapping[str, Any] | None
    tenant: str


class Limits(msgspec.Struct, frozen=True):
    """The options that are our own limits, and not arguments of the processor; 0: none."""

    side_max: Count = 0
    frames: Count = 0
    fps: Annotated[float, Meta(ge=0.0)] = 0.0


@dataclass(frozen=True)
class Wanted:
    """One item. Its media is read before the request."""

    media: MediaSource
    modality: Modality | None = None
    options: Mapping[str, Any] | None = None
    tenant: str = ""

    def read(self) -> Read:
        """Read and hash the media. Raises BadMedia if it is empty or cannot be read, and BadOption."""
        content = content_of(self.media)
        return Read(content, Media(self._wish(content), blake3(content).digest(), len(content), self.tenant))

    async def aread(self) -> Read:
        """`read`, without blocking an event loop for long."""
        if isinstance(self.media, bytes | bytearray | memoryview) and len(self.media) <= LONG_BYTES:
            return self.read()
        return await asyncio.to_thread(self.read)

    def _wish(self, content: bytes | memoryview) -> Wish:
        if isinstance(self.media, Embeddings):
            if self.options:
                raise BadOption("embeddings accept no options")
            return Wish("image", embedded=True)
        modality = self.modality or modality_of(content)
        if not self.options:
            return Wish(modality)
        try:
            limits = msgspec.convert(self.options, Limits)
            rest = {name: value for name, value in self.options.items() if name not in Limits.__struct_fields__}
            arguments = _encoder.encode(rest).decode() if rest else ""
        except (msgspec.ValidationError, TypeError) as error:
            raise BadOption(f"options: {error}") from None
        if len(arguments) > ARGUMENTS_LENGTH_MAX:
            raise BadOption(f"the options have {len(arguments)} characters, at most {ARGUMENTS_LENGTH_MAX} are allowed")
        return Wish(modality, limits.side_max, limits.frames, limits.fps, arguments=arguments)


@dataclass(frozen=True)
class Read:
    """Media that has been read and hashed."""

    content: bytes | memoryview
    media: Media
