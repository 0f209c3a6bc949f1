"""Media as a producer hands it over: read, hashed, and, if the sidecar does not know it, in memory that cannot change.

What a file is, is told by its first bytes: an image, a clip or a sound.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from mmplane.core.records import Modality, Tensor
from mmplane.embed.errors import BadMedia
from mmplane.sidecar.records import Media, Wish

MediaSource = bytes | bytearray | memoryview | str | os.PathLike[str]
"""Encoded bytes, or a path."""
LONG_BYTES = 1024 * 1024
"""What is longer is read and hashed by a thread where an event loop waits."""
OPTIONS = {"side_max", "frames", "fps"}
HEAD_BYTES = 64
_AUDIO = re.compile(rb"RIFF....WAVE|fLaC|OggS|ID3|\xff[\xe2-\xff]|....ftypM4A", re.DOTALL)
_VIDEO = re.compile(rb"....ftyp(?!avif|avis|mif1|msf1)|\x1aE\xdf\xa3", re.DOTALL)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Layout:
    """What media becomes, known before it is decoded. `tokens` replace its placeholder: `expansion` in runs."""

    modality: Modality
    key: bytes
    tensors: tuple[Tensor, ...]
    expansion: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        """How many tokens stand for the item in a prompt."""
        return sum(count for _, count in self.expansion)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By the arrays' names."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @property
    def dtypes(self) -> dict[str, str]:
        """By the arrays' names: NumPy's, or `bfloat16`."""
        return {tensor.name: tensor.dtype for tensor in self.tensors}


@dataclass(frozen=True)
class Read:
    """Media that was read and hashed."""

    content: bytes | memoryview
    media: Media


def read(media: MediaSource, modality: Modality | None, options: Mapping[str, Any] | None, tenant: str) -> Read:
    """Raises BadMedia when it is empty or cannot be read, ValueError for an option that does not exist."""
    content = _content(media)
    if not content:
        raise BadMedia("the file is empty")
    wish = _wish(modality or modality_of(content), options or {})
    return Read(content, Media(wish, blake3(content).digest(), len(content), tenant))


async def aread(media: MediaSource, modality: Modality | None, options: Mapping[str, Any] | None, tenant: str) -> Read:
    """`read`, without holding an event loop for long."""
    if isinstance(media, bytes | bytearray | memoryview) and len(media) <= LONG_BYTES:
        return read(media, modality, options, tenant)
    return await asyncio.to_thread(read, media, modality, options, tenant)


def _content(media: MediaSource) -> bytes | memoryview:
    match media:
        case bytes():
            return media
        case bytearray() | memoryview():
            return memoryview(media).cast("B")
    try:
        return Path(media).read_bytes()
    except OSError as error:
        raise BadMedia(f"{os.fspath(media)} cannot be read: {error.strerror}") from error


def _wish(modality: Modality, options: Mapping[str, Any]) -> Wish:
    if unknown := sorted(options.keys() - OPTIONS):
        raise ValueError(f"no such option: {', '.join(unknown)} (there are {', '.join(sorted(OPTIONS))})")
    return Wish(
        modality,
        side_max=int(options.get("side_max", 0)),
        frames_max=int(options.get("frames", 0)),
        fps_max=float(options.get("fps", 0.0)),
    )


def modality_of(head: bytes | memoryview) -> Modality:
    """The modality of a file that begins so; `image` for what is not known, which the sidecar then refuses."""
    first = bytes(head[:HEAD_BYTES])
    if _AUDIO.match(first):
        return "audio"
    return "video" if _VIDEO.match(first) else "image"


def sealed(content: bytes | memoryview) -> int:
    """A descriptor of sealed memory with this content; the caller's to close. Raises OSError."""
    descriptor = os.memfd_create("mmplane-media", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
