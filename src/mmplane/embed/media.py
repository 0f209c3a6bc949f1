"""Media as a producer sends it: its digest first, and if the sidecar does not know it, memory that cannot change.

The type of a file (image, clip or sound) is detected from its first bytes.
"""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmplane.core.records import Modality, Tensor
from mmplane.embed.embeddings import Embeddings
from mmplane.embed.errors import BadMedia

MediaSource = bytes | bytearray | memoryview | str | os.PathLike[str] | Embeddings
"""Encoded bytes, a path, or embeddings instead of an image."""
HEAD_BYTES = 64
_AUDIO = re.compile(rb"RIFF....WAVE|fLaC|OggS|ID3|\xff[\xe2-\xff]|....ftypM4A", re.DOTALL)
_VIDEO = re.compile(rb"....ftyp(?!avif|avis|mif1|msf1)|\x1aE\xdf\xa3", re.DOTALL)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Layout:
    """What media becomes, known before it is decoded. `tokens` replace its placeholder: `expansion` as runs."""

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
        """The shapes of the arrays by name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtypes of the arrays by name: NumPy's, or `bfloat16`."""
        return {tensor.name: tensor.dtype for tensor in self.tensors}


def content_of(media: MediaSource) -> bytes | memoryview:
    """The encoded bytes. Raises BadMedia if there are none, or if the file cannot be read."""
    content = _content(media)
    if not content:
        raise BadMedia("the file is empty")
    return content


def _content(media: MediaSource) -> bytes | memoryview:
    match media:
        case bytes():
            return media
        case bytearray() | memoryview():
            return memoryview(media).cast("B")
        case Embeddings():
            return media.content()
    try:
        return Path(media).read_bytes()
    except OSError as error:
        raise BadMedia(f"{os.fspath(media)} cannot be read: {error.strerror}") from error


def modality_of(head: bytes | memoryview) -> Modality:
    """The modality of a file with this beginning; `image` if unknown, which the sidecar then rejects."""
    first = bytes(head[:HEAD_BYTES])
    if _AUDIO.match(first):
        return "audio"
    return "video" if _VIDEO.match(first) else "image"


def sealed(content: bytes | memoryview) -> int:
    """Create sealed memory with this content. The caller closes the descriptor. Raises OSError."""
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
