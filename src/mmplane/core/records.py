"""Records: the values that cross process boundaries. Bounded, inert, and readable by any process of the same version.

A record can be copied, sent five times or dropped: it owns nothing (invariant 6). Lifetime is a matter of leases, which
the arena's owner keeps. Evolution: append fields with defaults, never change a field's type.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

MESSAGE_BYTES_MAX = 64 * 1024
"""The limit on a control message; longer token lists go into a slot."""

PROMPT_INLINE_BYTES_MAX = 16 * 1024
"""Up to this size a prompt's token ids (4 bytes each) travel in the record; above it, in a slot."""

Modality = Literal["image", "video", "audio"]

BackendName = Literal["pil", "torchvision"]
"""The backends of transformers' image processors, which give different bits."""

DecodeProfile = Literal["mmplane", "vllm", "sglang"]
"""The engine whose image loader is followed (`mmplane.media.profiles`)."""

Name = Annotated[str, msgspec.Meta(max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all records: immutable, encoded as a MessagePack array."""

    carries: ClassVar[bool] = False
    """Whether descriptors may come with this record; those that come with any other record are closed on arrival."""


class Slot(Record, frozen=True):
    """A range of one region's bytes. `generation` distinguishes this use of the bytes from any other."""

    region: Count
    offset_bytes: Count
    length_bytes: Count
    generation: Count


class Tensor(Record, frozen=True):
    """One array in a slot: C order, `offset_bytes` from the slot's start. `dtype`: NumPy's name or `bfloat16`."""

    name: Name
    dtype: Name
    shape: tuple[int, ...]
    offset_bytes: Count


class Layout(Record, frozen=True):
    """What one item becomes. Known from its size alone, before any pixel is decoded.

    `tensors[0]` holds the features; the others are small companions (grids, sizes). `expansion` replaces the item's
    placeholder in the prompt, as (token id, repetitions) runs. `length_bytes` is the size of the slot for all of it.
    """

    tensors: tuple[Tensor, ...]
    expansion: tuple[tuple[int, int], ...]
    length_bytes: Count


class Clip(Record, frozen=True):
    """What is known about a clip before it is decoded: its size and the frames to sample.

    `width` and `height` are in pixels, after rotation. `indices` are the numbers of the sampled frames in the file, in
    display order, out of `frames_total`, at `fps` frames per second (None: unknown; transformers then assumes 24).
    `seconds` is when each of them is shown, on the clock on which the clip begins at `begins_s`. `runs` are ranges of
    packet numbers to decode for them, each from the first to before the second number; without runs, all frames up to
    the last sampled one are decoded.
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
        """The number of frames that must be decoded for the sampled ones."""
        return sum(beyond - first for first, beyond in self.runs) or self.indices[-1] + 1


class Ask(Record, frozen=True):
    """What a request asks of one item, within the server's limits. Part of its content key.

    `side_max`: shrink an image so that its longer side has this many pixels (0: as it is). `frames_max`: sample at most
    this many frames of a clip. `fps_max`: and at most this many per second (0: as in the checkpoint). `embedded`: the
    media is the output of the vision tower for the item. `arguments` are the processor's for this item only, as a JSON
    object (empty: as in the checkpoint).
    """

    modality: Modality
    side_max: Count = 0
    frames_max: Count = 0
    fps_max: float = 0.0
    embedded: bool = False
    arguments: str = ""


class Recipe(Record, frozen=True):
    """Everything except the media that is needed to materialise one item, in any process; a few hundred bytes.

    `clip` is set for a video. `samples` is the length of a sound at the processor's rate. `side_max` shrinks an image
    before it is processed, so that its longer side has this many pixels (0: as it is). `decoded_bytes` is how much
    memory a worker needs in addition to the slot while it decodes the item. `embedded` media is embeddings, which are
    checked and copied instead of decoded. `arguments` are the processor's for this item only, as in `Ask`.
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
    """One item whose bytes travel inline, in its request's parcel: `length_bytes` at `offset_bytes` of it.

    The bytes are encoded media that a rank materialises by the recipe, or finished features in its layout, which may be
    compressed with zstd; the offsets of tensors count from the start of the uncompressed features. `feature_hash` comes
    with features that were hashed where they were made.
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
        """The same as an item's."""
        return self.recipe.modality

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The same as an item's."""
        return self.recipe.layout.tensors
