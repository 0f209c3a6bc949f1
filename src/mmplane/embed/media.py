"""Media as a producer hands it over: its bytes, and, if the sidecar does not know them, in memory that cannot change.

Its first bytes say what a file is: an image, a clip or a sound.
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
"""Encoded bytes, a path, or embeddings in the place of an image."""
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


def content_of(media: MediaSource) -> bytes | memoryview:
    """The encoded bytes. Raises BadMedia when there are none, or the file cannot be read."""
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
