"""The hash that vLLM gives an image and uses in its caches. With it a router finds the replica that holds the prefix.

It is a hash over the image and the model's id. Each piece is preceded by its length, each container by its kind.
Source: `vllm/multimodal/hasher.py` of vLLM 0.32. `tools/peers/vllm/record_render.py` recorded vLLM's own values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from blake3 import blake3

Value: TypeAlias = "str | int | bytes | memoryview | tuple[Value, ...] | Mapping[str, Value] | EncodedImage"

_SEQUENCE, _MAPPING, _LEAF = b"\1", b"\2", b"\3"
_CONVERTED: Mapping[str, Value] = {"image_mode": "RGB", "rgba_background_color": (255, 255, 255)}
"""What vLLM adds for an image that it has to convert to RGB."""


@dataclass(frozen=True)
class EncodedImage:
    """An image by its encoded bytes. `is_rgb`: its pixels need no conversion."""

    data: bytes | memoryview
    is_rgb: bool


def image_hash(image: EncodedImage, *, model_id: str) -> str:
    """The hash in hex. `model_id` must be exactly vLLM's `--model`."""
    digest = blake3()
    for piece in (*_named("image", image), *_named("model_id", model_id)):
        digest.update(piece)
    return digest.hexdigest()


def _named(name: str, value: Value) -> Iterator[bytes | memoryview]:
    yield from _framed(name.encode())
    yield from _pieces(value)


def _pieces(value: Value) -> Iterator[bytes | memoryview]:
    match value:
        case tuple():
            yield _SEQUENCE
            yield _length(len(value))
            for each in value:
                yield from _pieces(each)
        case Mapping():
            yield _MAPPING
            yield _length(len(value))
            for name, each in value.items():
                yield from _named(name, each)
        case EncodedImage():
            yield _LEAF
            yield from _named("image", value.data if value.is_rgb else {"io_config": _CONVERTED, "data": value.data})
        case str():
            yield _LEAF
            yield from _framed(value.encode())
        case int():
            yield _LEAF
            yield from _framed(struct.pack("<q", value))
        case _:
            yield _LEAF
            yield from _framed(value)


def _framed(piece: bytes | memoryview) -> Iterator[bytes | memoryview]:
    yield _length(len(piece))
    yield piece


def _length(value: int) -> bytes:
    return value.to_bytes(8, "little")
