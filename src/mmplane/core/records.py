"""Records: what crosses a process boundary. Bounded, inert, and readable by any process of the same version.

A record can be copied, sent five times or dropped: it owns nothing (invariant 6). Lifetime is leases, held by the
arena's owner. Evolution: append fields with defaults, never retype one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

MESSAGE_BYTES_MAX = 64 * 1024
"""No control message is larger; longer token lists lie in a slot."""

PROMPT_INLINE_BYTES_MAX = 16 * 1024
"""A prompt's token ids (4 bytes each) travel in the record up to here, above it in a slot."""

Modality = Literal["image", "video", "audio"]

BackendName = Literal["pil", "torchvision"]
"""Of transformers' image processors, which give different bits."""

DecodeProfile = Literal["mmplane", "vllm", "sglang"]
"""Whose loader images are decoded as (`mmplane.media.profiles`)."""

Name = Annotated[str, msgspec.Meta(max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all records: immutable, encoded as a MessagePack array."""

    carries: ClassVar[bool] = False
    """Whether descriptors may ride along; those beside any other record are closed on arrival."""


class Slot(Record, frozen=True):
    """A run of one region's bytes. `generation` tells this use of the bytes from any other."""

    region: Count
    offset_bytes: Count
    length_bytes: Count
    generation: Count


class Tensor(Record, frozen=True):
    """One array inside a slot: C order, `offset_bytes` from the slot's start. `dtype`: NumPy's name or `bfloat16`."""

    name: Name
    dtype: Name
    shape: tuple[int, ...]
    offset_bytes: Count


class Layout(Record, frozen=True):
    """What one item becomes: known from its size alone, before any pixel is decoded.

    `tensors[0]` holds the features; further ones are small companions (grids, sizes). `expansion` is what replaces the
    item's placeholder in the prompt, as (token id, repetitions) runs. `length_bytes` is the slot that holds it all.
    """

    tensors: tuple[Tensor, ...]
    expansion: tuple[tuple[int, int], ...]
    length_bytes: Count


class Clip(Record, frozen=True):
    """What is known of a clip before it is decoded: its size and which of its frames are taken.

    `width` and `height` in pixels, after rotation. `indices` are the numbers of the sampled frames in the file, in the
    order in which they are shown, of `frames_total`, at `fps` frames a second (None: unknown; transformers then takes
    24). `seconds` tells when each of them is shown, on the clock by which the clip begins at `begins_s`. `runs` are the
    numbers of the packets to decode for them, from the first to before the second; without any, all frames up to the
    last that is taken are decoded.
    """

    width: int
    height: int
    frames_total: int
    fps: float | None
    indices: tuple[int, ...]
    seconds: tuple[float, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()
    begins_s: float = 0.0

    @property
    def frames_decoded(self) -> int:
        """How many frames have to be decoded for those that are taken."""
        return sum(beyond - first for first, beyond in self.runs) or self.indices[-1] + 1


class Ask(Record, frozen=True):
    """What a request wants of one item, within what the server allows: a part of its content key.

    `side_max`: shrink an image so that its longer side has so many pixels (0: as it is). `frames_max`: take at most so
    many frames of a clip. `fps_max`: and at most so many a second (0: as the checkpoint says). `embedded`: what was
    sent is what the vision tower would make of the item. `arguments` are the processor's for this item alone, as a JSON
    object (empty: what the checkpoint says).
    """

    modality: Modality
    side_max: Count = 0
    frames_max: Count = 0
    fps_max: float = 0.0
    embedded: bool = False
    arguments: str = ""


class Recipe(Record, frozen=True):
    """Everything beside the media that it takes to materialise one item: the same on any process, a few hundred bytes.

    `clip` is a video's. `samples` is how many a sound has at the processor's rate. `side_max` shrinks an image before
    it is processed, so that its longer side has so many pixels (0: as it is). `decoded_bytes` is what a worker needs
    beside the slot while it decodes the item. `embedded` media is embeddings: checked and copied, not decoded.
    `arguments` are the processor's for this item alone, as in `Ask`.
    """

    modality: Modality
    layout: Layout
    clip: Clip | None = None
    samples: Count = 0
    side_max: Count = 0
    decoded_bytes: Count = 0
    embedded: bool = False
    arguments: str = ""


class Item(Record, frozen=True, tag="item"):
    """One materialised image, clip or sound in the arena, as the ranks see it."""

    content_key: bytes
    modality: Modality
    slot: Slot
    tensors: tuple[Tensor, ...]


class Enclosed(Record, frozen=True, tag="enclosed"):
    """One item whose bytes travel inline, in its request's parcel: `length_bytes` from `offset_bytes` there.

    They are encoded media that a rank will materialise by the recipe, or finished features in its layout, which may be
    packed with zstd; offsets of tensors count from the start of the (unpacked) features. `feature_hash` comes with
    features that were hashed where they were made.
    """

    content_key: bytes
    recipe: Recipe
    offset_bytes: Count
    length_bytes: Count
    media: bool
    packed: bool = False
    feature_hash: Count | None = None

    @property
    def modality(self) -> Modality:
        """As an item's."""
        return self.recipe.modality

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """As an item's."""
        return self.recipe.layout.tensors
