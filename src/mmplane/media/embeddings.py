"""Embeddings from clients, as a safetensors file, parsed by mmplane's own code, which cannot run any code in it.

    length of the header (8 bytes, little endian) | header: JSON | arrays, one after the other

    {"image_embeds": {"dtype": "BF16", "shape": [64, 2048], "data_offsets": [0, 262144]}, "image_grid_thw": {...}}

The header contains everything, so a wrong shape is refused before memory is reserved for it. The header is bounded,
every number in it is checked against the length of the file, and the arrays must cover the file exactly, without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from mmplane.core.errors import RequestError, bad_media
from mmplane.core.records import Recipe
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.embeddings import EMBEDDINGS, GRID, EmbeddingForm

HEADER_BYTES_MAX = 16 * 1024
LENGTH_BYTES = 8
DIMENSIONS_MAX = 4
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
"""The supported dtypes, and NumPy's or mmplane's name for each."""
FLOATS = ("float32", "float16", "bfloat16")
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}
EXPONENTS = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits of the exponent: if all of them are set, the value is infinite or NaN."""
SLICE = 1 << 20
"""Number of values checked at a time."""

Media = memoryview | bytes
Size = Annotated[int, Meta(ge=0, le=2**53)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array in the header."""

    dtype: str
    shape: Annotated[tuple[Size, ...], Meta(max_length=DIMENSIONS_MAX)]
    data_offsets: tuple[Size, Size]


@dataclass(frozen=True)
class Sent:
    """One array of the file: its dtype by mmplane's name, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def arrays(content: Media) -> dict[str, Sent]:
    """Return the arrays of a safetensors file by name, without copying. Raises RequestError (400)."""
    view = memoryview(content)
    header_bytes = int.from_bytes(view[:LENGTH_BYTES], "little")
    begin = LENGTH_BYTES + header_bytes
    if len(view) < LENGTH_BYTES or header_bytes > HEADER_BYTES_MAX or begin > len(view):
        raise _not_readable(f"a header of at most {HEADER_BYTES_MAX} bytes")
    try:
        named = _decoder.decode(view[LENGTH_BYTES:begin])
        named.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=Entry) for name, entry in named.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_readable("a header of names, dtypes, shapes and offsets") from None
    _check_offsets(entries, len(view) - begin)
    body = view[begin:]
    return {
        name: Sent(DTYPES[each.dtype], each.shape, body[slice(*each.data_offsets)]) for name, each in entries.items()
    }


def examine(form: EmbeddingForm, content: Media) -> Recipe:
    """Return how to use these embeddings. Raises RequestError (400) for what the model does not accept."""
    sent = arrays(content)
    if sent.keys() != form.names:
        raise bad_media(f"embeddings must hold exactly {' and '.join(sorted(form.names))}", EMBEDDINGS)
    embeddings = sent[EMBEDDINGS]
    if embeddings.dtype not in FLOATS:
        raise bad_media(f"{EMBEDDINGS} must be F32, F16 or BF16", EMBEDDINGS)
    if len(embeddings.shape) != 2 or embeddings.shape[0] == 0 or embeddings.shape[1] != form.width:
        raise bad_media(f"the shape of {EMBEDDINGS} must be tokens x {form.width} for this model", EMBEDDINGS)
    tokens = embeddings.shape[0]
    if form.merge:
        form.check_grid(_grid(sent[GRID]), tokens)
    return Recipe("image", form.layout(tokens, embeddings.dtype), decoded_bytes=len(content), embedded=True)


def write(content: Media, out: Arrays) -> int:
    """Copy the arrays into `out` and return the number of bytes. Raises RequestError (400) if a value is not finite."""
    written_bytes = 0
    for name, sent in arrays(content).items():
        if sent.dtype in FLOATS and not _is_finite(sent.content, sent.dtype):
            raise bad_media("embeddings must be finite: a value is infinite or not a number", EMBEDDINGS)
        out[name][...] = np.frombuffer(sent.content, out[name].dtype).reshape(out[name].shape)
        written_bytes += out[name].nbytes
    return written_bytes


def _check_offsets(entries: dict[str, Entry], body_bytes: int) -> None:
    """Check that each array has the bytes of its shape, and that together they cover the file."""
    end_bytes = 0
    for entry in sorted(entries.values(), key=lambda each: each.data_offsets):
        if entry.dtype not in DTYPES:
            raise _not_readable(f"arrays of {', '.join(DTYPES)}")
        begin, end = entry.data_offsets
        if begin != end_bytes or end - begin != prod(entry.shape) * BYTES[DTYPES[entry.dtype]]:
            raise _not_readable("arrays one after the other, each of its shape's length")
        end_bytes = end
    if end_bytes != body_bytes:
        raise _not_readable("arrays one after the other, to the end of the file")


def _grid(sent: Sent) -> tuple[int, ...]:
    if sent.dtype != "int64" or sent.shape not in ((3,), (1, 3)):
        raise bad_media(f"{GRID} must be I64 of shape 3 or 1 x 3", EMBEDDINGS)
    return tuple(int(side) for side in np.frombuffer(sent.content, np.int64))


def _is_finite(content: memoryview, dtype: str) -> bool:
    """Check the bits, a slice at a time: NumPy has no bfloat16, and a whole mask would need its own memory."""
    bits: npt.NDArray[Any] = np.frombuffer(content, np.uint32 if dtype == "float32" else np.uint16)
    exponent = bits.dtype.type(EXPONENTS[dtype])
    slices = (bits[start : start + SLICE] for start in range(0, len(bits), SLICE))
    return all(bool(((each & exponent) != exponent).all()) for each in slices)


def _not_readable(wanted: str) -> RequestError:
    return bad_media(f"embeddings are not a safetensors file with {wanted}", EMBEDDINGS)
