"""The parts of a message: texts, and media whose bytes are in the request's body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import msgspec

from mmplane.core.records import Ask, Modality
from mmplane.frontend.body.unused import NOTHING, Hint, Unused
from mmplane.frontend.sources.data_uri import inline_base64, inline_media

LOW_DETAIL_PIXELS = 512
"""The longer side of an image with `detail` low, as in OpenAI's API."""
UUID_MAX = 256
if TYPE_CHECKING:
    Text = str
else:
    Text = str | None


def given(raw: msgspec.Raw) -> msgspec.Raw | None:
    """Return a JSON value as raw bytes of the body; None for null and for an empty text."""
    return None if bytes(memoryview(raw)[:4]) in (b"null", b'""') else raw


class Part(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One piece of a message's content.

    Many clients write the fields of all kinds of parts, with null in those that do not belong to this kind.
    """

    text: Unused = NOTHING
    image_url: Unused = NOTHING
    video_url: Unused = NOTHING
    audio_url: Unused = NOTHING
    input_audio: Unused = NOTHING
    image_embeds: Unused = NOTHING
    uuid: Unused = NOTHING
    file: Unused = NOTHING
    refusal: Unused = NOTHING
    annotations: Unused = NOTHING
    cache_control: Hint = NOTHING
    prompt_cache_breakpoint: Hint = NOTHING

    @property
    def tag(self) -> str:
        """The part's type as clients write it."""
        return str(type(self).__struct_config__.tag)


class TextPart(Part, tag="text"):
    """Plain text; null counts as an empty text."""

    text: Text

    def __post_init__(self) -> None:
        self.text = self.text or ""


class MediaUrl(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The source of an item's bytes: a data URI, or a URL on a host that the operator allows.

    `source` is the raw JSON string in the body, including its quotes. Megabytes of base64 are decoded directly from
    there, without creating a string first.
    """

    source: msgspec.Raw = msgspec.field(name="url", default=NOTHING)

    @classmethod
    def of(cls, url: str) -> Self:
        """An item at this URL."""
        return cls(msgspec.Raw(msgspec.json.encode(url)))


class ImageUrl(MediaUrl):
    """An image's URL. With `detail` low the image is first shrunk to `LOW_DETAIL_PIXELS`."""

    detail: Literal["auto", "high", "low", "original", ""] | None = None


class InputAudio(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A sound: base64 of a file, as raw bytes of the body. Its type is detected from its first bytes."""

    source: msgspec.Raw = msgspec.field(name="data", default=NOTHING)
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "webm", "mkv", "aac", ""] | None = None


class MediaPart(Part):
    """One item. `uuid` is the client's own name for it: a later part may have only the name, and no bytes."""

    modality: ClassVar[Modality]
    is_base64: ClassVar[bool] = False
    """Whether the source is base64 and not a URL."""
    uuid: Annotated[str, msgspec.Meta(min_length=1, max_length=UUID_MAX)] | None = None

    @property
    def held(self) -> MediaUrl | InputAudio | None:
        """The part's own object; None if only a name was sent."""
        raise NotImplementedError

    @property
    def source(self) -> msgspec.Raw | None:
        """The URL or the base64 as raw JSON, including quotes; None if only a name was sent."""
        return given(self.held.source) if self.held is not None else None

    @source.setter
    def source(self, raw: msgspec.Raw) -> None:
        assert self.held is not None
        self.held.source = raw

    @property
    def source_path(self) -> str:
        """The field of the part that holds its source, for errors."""
        return f"{self.tag}.url"

    @property
    def ask(self) -> Ask:
        """The options for the item that the part itself sets."""
        return Ask(self.modality)


class ImagePart(MediaPart, tag="image_url"):
    """One image."""

    modality: ClassVar[Modality] = "image"
    image_url: ImageUrl | None = None

    @property
    def held(self) -> ImageUrl | None:
        """The part's own object."""
        return self.image_url

    @property
    def ask(self) -> Ask:
        """The maximum size, if `detail` is low."""
        low = self.image_url is not None and self.image_url.detail == "low"
        return Ask("image", side_max=LOW_DETAIL_PIXELS if low else 0)


class VideoPart(MediaPart, tag="video_url"):
    """One clip."""

    modality: ClassVar[Modality] = "video"
    video_url: MediaUrl | None = None

    @property
    def held(self) -> MediaUrl | None:
        """The part's own object."""
        return self.video_url


class AudioUrlPart(MediaPart, tag="audio_url"):
    """One sound, by URL."""

    modality: ClassVar[Modality] = "audio"
    audio_url: MediaUrl | None = None

    @property
    def held(self) -> MediaUrl | None:
        """The part's own object."""
        return self.audio_url


class AudioPart(MediaPart, tag="input_audio"):
    """One sound, by its bytes."""

    modality: ClassVar[Modality] = "audio"
    is_base64: ClassVar[bool] = True
    input_audio: InputAudio | None = None

    @property
    def held(self) -> InputAudio | None:
        """The part's own object."""
        return self.input_audio

    @property
    def source_path(self) -> str:
        """The field of the part that holds its source, for errors."""
        return f"{self.tag}.data"


class EmbeddingsPart(MediaPart, tag="image_embeds"):
    """Embeddings of one image that the client computed like the vision tower: base64 of a safetensors file."""

    modality: ClassVar[Modality] = "image"
    is_base64: ClassVar[bool] = True
    image_embeds: msgspec.Raw = NOTHING

    @property
    def source(self) -> msgspec.Raw | None:
        """The base64 as raw JSON, including quotes; None if only a name was sent."""
        return given(self.image_embeds)

    @source.setter
    def source(self, raw: msgspec.Raw) -> None:
        self.image_embeds = raw

    @property
    def source_path(self) -> str:
        """The field of the part that holds its source, for errors."""
        return self.tag

    @property
    def ask(self) -> Ask:
        """Marks the item as embeddings of an image, so that its key differs from that of the image."""
        return Ask("image", embedded=True)


class UnbuiltPart(msgspec.Struct, tag_field="type"):
    """A part that OpenAI or other servers support and this one does not."""


class FilePart(UnbuiltPart, tag="file"):
    """A document."""


class RefusalPart(UnbuiltPart, tag="refusal"):
    """An earlier refusal of the model."""


AnyPart = TextPart | ImagePart | EmbeddingsPart | AudioPart | AudioUrlPart | VideoPart | FilePart | RefusalPart


def inline(part: MediaPart) -> bytes | None:
    """Return the bytes that a part contains; None for a URL or a name only. Raises RequestError (400)."""
    source = part.source
    if source is None:
        return None
    return inline_base64(source, part.tag) if part.is_base64 else inline_media(source, part.tag)
